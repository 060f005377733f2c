"""Complete methods: one file an engine, from a `phalanx.verify.engine.Task` to an `Outcome`."""
