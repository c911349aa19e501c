//! Branches of XA transactions: they belong to no connection, and once prepared they outlive the broker.
//!
//! What a transaction manager calls a branch may gather by several connections. When it is prepared, it is written down as
//! [`prepared`]; the messages that it has acknowledged stay in their queues, held by nobody else.

mod prepared;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Weak,
};

use broker::{Broker, Name, Position, QueueId, SessionId, broker::Caller, publish::Batch};
use parking_lot::Mutex;

use self::prepared::Note;
use crate::{
    ORIGIN,
    ids::{ConsumerId, XaTransactionId},
    mapping::{Exception, xa},
    outgoing::Settled,
    transaction::{Acknowledged, Transaction},
};

/// Branches that there may be.
const BRANCHES: usize = 100_000;

/// The name of a branch.
pub type Xid = XaTransactionId<'static>;

/// A branch, in its vhost.
type Key = (Name, Xid);

/// The branches of all connections.
#[derive(Debug, Default)]
pub struct Branches(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    branches: HashMap<Key, Branch>,
    /// Those that are not prepared, by the connection with which they end.
    begun: HashMap<SessionId, HashSet<Key>>,
}

impl All {
    fn insert(&mut self, key: Key, branch: Branch) {
        if !branch.is_prepared {
            self.begun.entry(branch.session).or_default().insert(key.clone());
        }
        self.branches.insert(key, branch);
    }

    fn remove(&mut self, key: &Key) -> Option<Branch> {
        let branch = self.branches.remove(key)?;
        self.is_no_longer_begun(branch.session, key);
        Some(branch)
    }

    /// A branch does not end with its connection, or is over.
    fn is_no_longer_begun(&mut self, session: SessionId, key: &Key) {
        if let Some(keys) = self.begun.get_mut(&session) {
            keys.remove(key);
            if keys.is_empty() {
                self.begun.remove(&session);
            }
        }
    }
}

#[derive(Debug)]
struct Branch {
    /// Whose it is.
    user: Name,
    /// The connection that began it, with which it ends if it is not prepared.
    session: SessionId,
    is_prepared: bool,
    transaction: Transaction,
}

/// A prepared branch, as operators see it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its vhost.
    pub vhost: Name,
    /// Its name, as ActiveMQ's logs have it.
    pub name: String,
    /// Whose it is.
    pub user: Name,
    /// Messages that it is to send.
    pub messages: usize,
    /// Messages that it has acknowledged.
    pub acknowledged: usize,
}

/// What comes of preparing a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It can be committed, once this is safe.
    Commit(Position),
    /// Nothing has been done in it, and it is over.
    ReadOnly,
}

fn key(caller: &Caller, xid: &Xid) -> Key {
    (caller.vhost.name().clone(), xid.clone())
}

fn unknown(xid: &Xid) -> Exception {
    Exception::xa(xa::NOT_A, format!("Transaction '{xid}' has not been started"))
}

impl Branches {
    /// The branches that were prepared when the broker stopped. They have to be here before the broker reads anything from the
    /// log, because they hold messages.
    pub(crate) fn restored(broker: &Broker, notes: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let mut branches: HashMap<Key, Branch> = HashMap::new();
        let (mut messages, mut orphans) = (BTreeMap::new(), Batch::default());
        for (note_key, value) in notes {
            match prepared::read(&note_key, &value) {
                Some(Note::Branch { vhost, xid, user, held }) => {
                    let mut transaction = Transaction::default();
                    transaction.acknowledged.extend(held_again(broker, &vhost, &held));
                    let session = SessionId(0);
                    branches.insert((vhost, xid), Branch { user, session, is_prepared: true, transaction });
                }
                Some(Note::Message { vhost, xid, index, message }) => {
                    messages.insert(note_key, ((vhost, xid), index, message));
                }
                None => orphans.note(ORIGIN, &note_key, None),
            }
        }
        let mut messages: Vec<_> = messages.into_iter().collect();
        messages.sort_by_key(|(_, (_, index, _))| *index);
        for (note_key, (key, _, message)) in messages {
            match branches.get_mut(&key) {
                Some(branch) => branch.transaction.sent.push((None, message)),
                None => orphans.note(ORIGIN, &note_key, None),
            }
        }
        broker.apply(&mut orphans);
        Self(Mutex::new(All { branches, begun: HashMap::new() }))
    }

    /// How many are prepared, and wait for their transaction manager.
    pub fn prepared(&self) -> usize {
        self.0.lock().branches.values().filter(|branch| branch.is_prepared).count()
    }

    /// Those that are prepared, for operators.
    pub fn survey(&self) -> Vec<Prepared> {
        let all = self.0.lock();
        let prepared = all.branches.iter().filter(|(_, branch)| branch.is_prepared);
        let told = prepared.map(|((vhost, xid), Branch { user, transaction, .. })| Prepared {
            vhost: vhost.clone(),
            name: xid.to_string(),
            user: user.clone(),
            messages: transaction.sent.len(),
            acknowledged: transaction.acknowledged.iter().map(|one| one.settled.len()).sum(),
        });
        told.collect()
    }

    /// Ends a prepared branch whose transaction manager does not come back, as an operator has decided. Returns whether there is one
    /// of that name.
    ///
    /// # Errors
    /// If not all of its messages have room in their queues; it is committed nevertheless.
    pub fn decide(&self, broker: &Broker, vhost: &str, name: &str, is_committed: bool) -> Result<bool, Exception> {
        let mut all = self.0.lock();
        let is_meant =
            |(of, xid): &Key, branch: &mut Branch| branch.is_prepared && **of == *vhost && xid.to_string() == name;
        let meant = all.branches.extract_if(is_meant).next();
        drop(all);
        let Some((key, mut branch)) = meant else { return Ok(false) };
        let mut batch = Batch::transaction();
        prepared::remove(&mut batch, &key, &branch.transaction);
        if !is_committed {
            branch.transaction.roll_back(broker, batch);
            return Ok(true);
        }
        self.done(branch.transaction.commit(broker, vhost, batch), key, branch).map(|_| true)
    }

    /// Begins a branch; one that has begun goes on.
    pub fn begin(&self, caller: &Caller, xid: &Xid) -> Result<(), Exception> {
        let (mut all, key) = (self.0.lock(), key(caller, xid));
        match all.branches.get(&key) {
            Some(branch) if branch.is_prepared => {
                return Err(Exception::xa(xa::DUPLICATE, format!("Transaction '{xid}' is prepared")));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if all.branches.len() >= BRANCHES {
            return Err(Exception::resource(format!("there may be {BRANCHES} XA transactions")));
        }
        let (user, session, is_prepared) = (caller.user.clone(), caller.session, false);
        all.insert(key, Branch { user, session, is_prepared, transaction: Transaction::default() });
        Ok(())
    }

    /// Adds to a branch.
    pub fn gather<T>(
        &self,
        caller: &Caller,
        xid: &Xid,
        add: impl FnOnce(&mut Transaction) -> Result<T, Exception>,
    ) -> Result<T, Exception> {
        let mut all = self.0.lock();
        let branch = all.branches.get_mut(&key(caller, xid)).ok_or_else(|| unknown(xid))?;
        if branch.is_prepared {
            return Err(Exception::xa(xa::PROTOCOL, format!("Transaction '{xid}' is prepared")));
        }
        add(&mut branch.transaction)
    }

    /// Promises that a branch can be committed, whatever happens. One that cannot is rolled back.
    pub fn prepare(&self, broker: &Broker, caller: &Caller, xid: &Xid) -> Result<Vote, Exception> {
        let mut all = self.0.lock();
        let key = key(caller, xid);
        let Some(branch) = all.branches.get_mut(&key).filter(|branch| branch.is_of(broker, caller)) else {
            return Err(unknown(xid));
        };
        if branch.is_prepared {
            return Ok(Vote::Commit(Position(0)));
        }
        let failure = branch.transaction.failure.clone();
        if branch.transaction.is_empty() || failure.is_some() {
            let ended = all.remove(&key);
            drop(all);
            ended.into_iter().for_each(|branch| {
                branch.transaction.roll_back(broker, Batch::default());
            });
            return match failure {
                Some(failure) => Err(Exception::xa(xa::ROLLED_BACK, failure.message)),
                None => Ok(Vote::ReadOnly),
            };
        }
        let mut batch = Batch::default();
        prepared::put(&mut batch, &key, &branch.user, &branch.transaction);
        branch.is_prepared = true;
        let session = branch.session;
        all.is_no_longer_begun(session, &key);
        Ok(Vote::Commit(broker.apply(&mut batch).position))
    }

    /// Does what a branch has gathered. Only one that is not prepared can be committed in one phase, and only then can it fail.
    pub fn commit(
        &self,
        broker: &Broker,
        caller: &Caller,
        xid: &Xid,
        in_one_phase: bool,
    ) -> Result<Position, Exception> {
        let mut branch = self.take(broker, caller, xid, |branch| {
            if in_one_phase || branch.is_prepared {
                return Ok(());
            }
            let problem = "Cannot do 2 phase commit if the transaction has not been prepared";
            Err(Exception::xa(xa::PROTOCOL, problem))
        })?;
        let mut batch = Batch::transaction();
        if branch.is_prepared {
            prepared::remove(&mut batch, &key(caller, xid), &branch.transaction);
        } else if let Some(failure) = branch.transaction.failure.clone() {
            branch.transaction.roll_back(broker, Batch::default());
            return Err(Exception::xa(xa::ROLLED_BACK, failure.message));
        }
        self.done(branch.transaction.commit(broker, caller.vhost.name(), batch), key(caller, xid), branch)
    }

    /// What came of a commit. A branch that could not be committed stays as it was.
    fn done(
        &self,
        committed: Result<(Position, usize), Exception>,
        key: Key,
        branch: Branch,
    ) -> Result<Position, Exception> {
        match committed {
            Ok((position, 0)) => Ok(position),
            Ok((_, refused)) => {
                let problem = format!("{refused} messages of the transaction had no room in their queues");
                Err(Exception::xa(xa::HEURISTICALLY_MIXED, problem))
            }
            Err(exception) => {
                self.0.lock().insert(key, branch);
                Err(Exception::xa(xa::RETRY, exception.message))
            }
        }
    }

    /// Forgets what a branch has gathered.
    pub fn roll_back(&self, broker: &Broker, caller: &Caller, xid: &Xid) -> Result<Position, Exception> {
        let branch = self.take(broker, caller, xid, |_| Ok(()))?;
        let mut batch = Batch::transaction();
        if branch.is_prepared {
            prepared::remove(&mut batch, &key(caller, xid), &branch.transaction);
        }
        Ok(branch.transaction.roll_back(broker, batch))
    }

    /// The branches that are prepared and that the caller may see to.
    pub fn recover(&self, broker: &Broker, caller: &Caller) -> Vec<Xid> {
        let all = self.0.lock();
        let of_vhost = all.branches.iter().filter(|((vhost, _), _)| vhost == caller.vhost.name());
        let prepared = of_vhost.filter(|(_, branch)| branch.is_prepared && branch.is_of(broker, caller));
        prepared.map(|((_, xid), _)| xid.clone()).collect()
    }

    /// A connection ends, and what it began with it, unless it is prepared.
    pub fn leave(&self, broker: &Broker, session: SessionId) {
        let ended: Vec<Branch> = {
            let mut all = self.0.lock();
            let begun = all.begun.remove(&session).unwrap_or_default();
            begun.iter().filter_map(|key| all.branches.remove(key)).collect()
        };
        ended.into_iter().for_each(|branch| {
            branch.transaction.roll_back(broker, Batch::default());
        });
    }

    fn take(
        &self,
        broker: &Broker,
        caller: &Caller,
        xid: &Xid,
        check: impl FnOnce(&Branch) -> Result<(), Exception>,
    ) -> Result<Branch, Exception> {
        let mut all = self.0.lock();
        let key = key(caller, xid);
        let found = all.branches.get(&key).filter(|branch| branch.is_of(broker, caller)).ok_or_else(|| unknown(xid))?;
        check(found)?;
        all.remove(&key).ok_or_else(|| unknown(xid))
    }
}

impl Branch {
    /// Whether a caller may see to it: its user, whose transaction manager may come by any connection, or an administrator.
    fn is_of(&self, broker: &Broker, caller: &Caller) -> bool {
        self.user == caller.user || broker.has_tag(caller, "administrator")
    }
}

/// Holds messages again that a branch had acknowledged before the broker stopped: queues and records.
fn held_again(broker: &Broker, vhost: &str, held: &[(u64, u64)]) -> Option<Acknowledged> {
    let operator = broker.operator(vhost).ok()?;
    let hold = |&(queue, record): &(u64, u64)| {
        let queue = operator.vhost.read().queue_by_id(QueueId(queue)).cloned()?;
        let record = Position(record);
        let slot = broker.restore_held(&queue, record)?;
        Some(Settled { queue, consumer: None, slot, record, revoked: false, number: 0 })
    };
    let settled = held.iter().filter_map(hold).collect();
    Some(Acknowledged { by: Weak::new(), consumer: (0, ConsumerId::default()), settled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::{MemoryLog, Millis, Recovered, Settings};
    use std::sync::Arc;

    #[test]
    fn a_connection_ends_with_what_it_began_and_is_not_prepared() {
        let broker =
            Broker::new(Settings::default(), Arc::new(MemoryLog::default()), Recovered::default(), Millis(0)).unwrap();
        broker.add_vhost(&"/".into());
        let caller = |session| {
            let mut caller = broker.operator("/").unwrap();
            caller.session = SessionId(session);
            caller
        };
        let xid = |name: &str| XaTransactionId {
            format_id: 1,
            global_transaction_id: Some(name.as_bytes().to_vec().into()),
            branch_qualifier: None,
        };
        let branches = Branches::default();
        for (session, name) in [(1, "a"), (1, "b"), (2, "c")] {
            branches.begin(&caller(session), &xid(name)).unwrap();
            // It goes on, with the connection that began it.
            branches.begin(&caller(3), &xid(name)).unwrap();
        }
        branches.roll_back(&broker, &caller(3), &xid("b")).unwrap();
        branches.leave(&broker, SessionId(3));
        assert_eq!(branches.0.lock().branches.len(), 2);
        branches.leave(&broker, SessionId(1));
        assert_eq!(branches.0.lock().branches.len(), 1);
        // One in which nothing was done is over with its vote.
        assert_eq!(branches.prepare(&broker, &caller(2), &xid("c")), Ok(Vote::ReadOnly));
        assert!(branches.0.lock().begun.is_empty());
    }
}
