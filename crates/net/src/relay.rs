//! Holds the reserving sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use hoist_model::ContainerId;

use crate::ports::Reservation;
use crate::shared::lock;

#[derive(Default)]
pub(crate) struct Relay {
    held: Mutex<HashMap<ContainerId, Vec<(Reservation, SocketAddr)>>>,
}

impl Relay {
    pub(crate) fn add(&self, owner: &ContainerId, sockets: Vec<(Reservation, SocketAddr)>) {
        if !sockets.is_empty() {
            lock(&self.held).insert(owner.clone(), sockets);
        }
    }

    pub(crate) fn remove(&self, owner: &ContainerId) {
        lock(&self.held).remove(owner);
    }

    pub(crate) fn stop(&self) {
        lock(&self.held).clear();
    }
}
