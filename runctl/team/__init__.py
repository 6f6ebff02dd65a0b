"""What a team holds to: policy values, waivers and a baseline, by path."""
