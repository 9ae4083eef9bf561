"""An edit as an object: made from a scene, two sentences and a prior; run, looked at, stopped, resumed, saved."""
