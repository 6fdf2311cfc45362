//! Monitors kept ready for starts to come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::PoisonError;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Shared;
use crate::message::{self, Kind};
use crate::monitor::Order;
use crate::plan::Step;
use crate::spare::{self, Spare};

/// The spares there are: one for a container, one for a further process of one.
#[derive(Default)]
pub(super) struct Spares {
    furnished: Option<OwnedFd>,
    bare: Option<OwnedFd>,
    /// What the last container got: most often the next one gets the same.
    furnishings: Vec<Vec<Step>>,
    wanted: bool,
    /// Nobody is kept waiting by making them now.
    at_leisure: bool,
}

impl Spares {
    /// A spare for this order, if there is one.
    fn take(&mut self, order: &Order) -> Option<OwnedFd> {
        if !order.has_listener {
            return self.bare.take();
        }
        self.furnishings = if order.plan.has_own_users() {
            Vec::new()
        } else {
            spare::furnishings(&order.plan.steps)
        };
        self.furnished.take().or_else(|| self.bare.take())
    }

    /// Notes that one may have been used.
    pub(super) fn want_more(&mut self) {
        self.wanted = true;
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.wanted
    }

    /// Notes that what was started has ended: whoever waited for that may want the next at once.
    pub(super) fn have_time(&mut self) {
        self.at_leisure = self.wanted;
    }

    pub(super) fn are_wanted_now(&self) -> bool {
        self.at_leisure
    }

    /// Lets go of all: their parent is gone. They end.
    pub(super) fn clear(&mut self) {
        self.furnished = None;
        self.bare = None;
    }
}

impl Shared {
    /// The control socket of a spare that has taken an order; `None` where the zygote has to make a monitor.
    pub(super) fn order_spare(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Option<OwnedFd> {
        let mut spares = self.spares();
        if !self.zygote_lives() {
            // Nobody would be there for what a monitor leaves that is killed.
            spares.clear();
        }
        let spare = spares.take(order)?;
        drop(spares);
        // One that was killed meanwhile takes nothing.
        message::send(&spare, Kind::Order, order, fds).ok()?;
        Some(spare)
    }

    /// Orders spares in the place of those that were used or killed. Best effort: without them the zygote makes monitors.
    pub(super) fn make_spares(&self) {
        let (furnishings, furnished, bare) = {
            let mut spares = self.spares();
            (spares.wanted, spares.at_leisure) = (false, false);
            spares.furnished = spares.furnished.take().filter(is_held);
            spares.bare = spares.bare.take().filter(is_held);
            let missing = (spares.furnished.is_none(), spares.bare.is_none());
            (spares.furnishings.clone(), missing.0, missing.1)
        };
        if furnished {
            let made = self.make_spare(furnishings);
            self.spares().furnished = made;
        }
        if bare {
            let made = self.make_spare(Vec::new());
            self.spares().bare = made;
        }
    }

    fn make_spare(&self, furnishings: Vec<Vec<Step>>) -> Option<OwnedFd> {
        let (ours, theirs) = message::pair().ok()?;
        match self.send_order(Kind::Spare, &Spare { furnishings }, &[theirs.as_fd()]) {
            Ok(()) => Some(ours),
            Err(error) => {
                tracing::debug!(%error, "no monitor is made ahead");
                None
            }
        }
    }

    fn zygote_lives(&self) -> bool {
        let zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        is_held(&zygote.socket)
    }

    pub(super) fn spares(&self) -> std::sync::MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody has the other end of a socket.
fn is_held(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let _ = poll(&mut polled, Some(&Timespec::default()));
    !polled[0].revents().contains(PollFlags::HUP)
}
