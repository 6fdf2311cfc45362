//! nf_tables, spoken natively (linux/netfilter/nf_tables.h): transactions, dumps, and our table's contents.

mod expression;
mod foreign;
mod name_server;
mod ruleset;
mod sets;

use hoist_sys::netlink::{ACKNOWLEDGE, Attributes, Batch, Family, Reply, Socket};

pub(crate) use expression::Rule;
pub(crate) use foreign::{ForeignChain, Place, Survey};
pub(crate) use name_server::name_server;
pub(crate) use ruleset::{BridgeRules, Entrance, FamilyRules, Ruleset};
pub(crate) use sets::Element;
use sets::Set;

use crate::error::NetError;

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;

/// The inet family: IPv4 and IPv6 in one table.
pub(crate) const INET: u8 = 1;
/// Group of notifications about changes.
pub(crate) const GROUP: i32 = 7;

/// `struct nfgenmsg`.
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// One transaction: all of it happens or nothing.
pub(crate) struct Transaction {
    batch: Batch,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut batch = Batch::new();
        let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
        batch.message(
            "begin nf_tables transaction",
            BATCH_BEGIN,
            0,
            &[0, 0, high, low],
            |_| {},
        );
        Self { batch }
    }

    fn message(
        &mut self,
        name: String,
        kind: u16,
        flags: u16,
        family: u8,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.batch.message(name, kind, flags, &header(family), fill);
    }

    fn end(mut self) -> Batch {
        let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
        self.batch.message(
            "commit nf_tables transaction",
            BATCH_END,
            0,
            &[0, 0, high, low],
            |_| {},
        );
        self.batch
    }
}

/// An nf_tables socket.
pub(crate) struct Tables {
    socket: Socket,
}

impl Tables {
    /// Speaks for the calling thread's namespace.
    pub(crate) fn open() -> Result<Self, NetError> {
        let socket = Socket::open(Family::Netfilter)
            .map_err(|source| NetError::kernel("open an nf_tables socket", source))?;
        Ok(Self { socket })
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Commits; only refusals are answered, so the size of the transaction does not matter.
    pub(crate) fn commit(&self, transaction: Transaction) -> Result<(), NetError> {
        let mut batch = transaction.end();
        let refused = self
            .socket
            .execute(&mut batch)
            .map_err(|source| NetError::kernel("talk nf_tables", source))?;
        match refused.into_iter().next() {
            Some(one) => Err(NetError::kernel(one.to_string(), one.source)),
            None => Ok(()),
        }
    }

    /// The elements of one of our sets; `None` where table or set is not there.
    fn elements(&self, table: &str, set: &'static Set) -> Result<Option<Vec<Element>>, NetError> {
        let replies = self.list("elements", GET_ELEMENT, INET, |a| {
            a.put_text(1, table).put_text(2, set.name);
        })?;
        let parse = |reply: &Reply| sets::parse_elements(set, reply);
        Ok(replies.map(|replies| replies.iter().flat_map(parse).collect()))
    }

    /// Every rule of a table.
    fn rules(&self, family: u8, table: &str) -> Result<Vec<Reply>, NetError> {
        let replies = self.list("rules", GET_RULE, family, |a| {
            a.put_text(1, table);
        })?;
        Ok(replies
            .unwrap_or_default()
            .into_iter()
            .filter(|reply| ruleset::text_attribute(reply, 1).as_deref() == Some(table))
            .collect())
    }

    /// Every chain of every table of a family (0 is every family).
    fn chains(&self, family: u8) -> Result<Vec<Reply>, NetError> {
        Ok(self
            .list("chains", GET_CHAIN, family, |_| {})?
            .unwrap_or_default())
    }

    /// Names of the inet tables.
    pub(crate) fn table_names(&self) -> Result<Vec<String>, NetError> {
        let replies = self
            .list("tables", GET_TABLE, INET, |_| {})?
            .unwrap_or_default();
        Ok(replies
            .iter()
            .filter_map(|reply| ruleset::text_attribute(reply, 1))
            .collect())
    }

    fn list(
        &self,
        what: &str,
        kind: u16,
        family: u8,
        fill: impl Fn(&mut Attributes<'_>),
    ) -> Result<Option<Vec<Reply>>, NetError> {
        match self.socket.dump(kind, &header(family), fill) {
            Ok(replies) => Ok(Some(replies)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(source) => Err(NetError::kernel(format!("list nf_tables {what}"), source)),
        }
    }

    /// Removes a table, if it is there.
    pub(crate) fn delete_table(&self, name: &str) -> Result<(), NetError> {
        if !self.table_names()?.iter().any(|table| table == name) {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        transaction.message(
            format!("delete table inet {name}"),
            DELETE_TABLE,
            ACKNOWLEDGE,
            INET,
            |a| {
                a.put_text(1, name);
            },
        );
        self.commit(transaction)
    }
}

/// Reads a message as whatever of nf_tables it may be.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn examine(reply: &Reply) {
    for set in sets::SETS {
        let _ = sets::parse_elements(set, reply);
    }
    foreign::examine(reply);
    let _ = is_foreign_commit(reply, 1);
}

/// Whether a notification says that another socket committed a transaction.
pub(crate) fn is_foreign_commit(reply: &Reply, own_port: u32) -> bool {
    reply.kind == NEW_GENERATION && reply.port != own_port
}
