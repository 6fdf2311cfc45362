//! The façade's edge to time: `Up 3 seconds` needs a now. It is the engine's, so that both agree.

pub(crate) use hoist_engine::clock::now;
