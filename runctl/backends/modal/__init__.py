"""Modal: containers with GPUs by the minute, and volumes that outlive them.

    backend   what every backend offers, of Modal
    recipe    what an image is made of, as data
    plan      config → a printable request: image, GPU, limits, volume, secrets by name, tags, the call's argument
    place     what `runctl.yaml` says of Modal, and where on the volume things lie
    shipping  what of a project goes into the container of a program of its own; `program`: whether that is enough
    image     a recipe → `modal.Image`
    send      send a request; every id on disk before the next step
    ids       remote.json: the ids of a run, and what was last seen of it
    client    the way to Modal's own client: late, under deadlines, its errors in our words
    look      what Modal and the volume say of a run now; what was left half done is ended
    finding   the living apps, the run of an app, the call of an app, as far as the service says them
    copies    a run's records here, as copies of those on the volume
    steer     stop, attach, find strays
    removing  what prune deletes, on the volume
    online    what Modal says before a launch: token, environment, secrets, volume, dataset
    datasets  encoded datasets on the volume: push, list, check
    encoding  replays → a dataset on the volume, in CPU containers
    costs     what one attempt has cost, by the GPU that it was given

`modal` itself is imported only inside functions that send something, never while planning. The other side, inside the
container, is `runctl/remote/`.
"""
