"""The Modal backend: containers with GPUs by the minute, and volumes that outlive them.

    recipe    what an image is made of, as data
    plan      config → a printable request: image, GPU, limits, volume, secrets by name, tags, the call's argument
    image     a recipe → `modal.Image`

`modal` itself is imported only inside functions that send something, never while planning.
"""
