//! Transactions, of the connection alone or of a transaction manager, and their steps.

use super::connection::{Connection, Failure};
use super::message::{read_bytes, write_bytes, write_text};
use crate::raw::{Reader, Writer};

const TRANSACTION_INFO: u8 = 7;
const LOCAL: u8 = 111;
const XA: u8 = 112;

/// Its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// Of the connection alone.
    Local(u64),
    /// A branch with this global name.
    Xa(Vec<u8>),
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begin = 0,
    Prepare = 1,
    CommitOnePhase = 2,
    CommitTwoPhases = 3,
    Rollback = 4,
    Recover = 5,
    End = 7,
}

impl Transaction {
    /// The field that names it, or none.
    pub(super) fn write(transaction: Option<&Self>, client: &str, out: &mut Writer) {
        match transaction {
            None => drop(out.u8(0)),
            Some(Self::Local(number)) => {
                out.u8(1).u8(LOCAL).u64(*number).u8(1).u8(120);
                write_text(Some(client), out);
            }
            Some(Self::Xa(name)) => {
                out.u8(1).u8(XA).u32(4711);
                write_bytes(Some(name), out);
                write_bytes(Some(b"branch"), out);
            }
        }
    }
}

impl Connection {
    /// Takes a step, and awaits that it is done.
    pub fn step(&mut self, transaction: &Transaction, step: Step) -> Result<(), Failure> {
        self.ask_for(Some(transaction), step).map(drop)
    }

    /// The global names of the branches that are prepared.
    pub fn recover(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let answer = self.ask_for(None, Step::Recover)?;
        let mut input = Reader::new(&answer);
        let mut names = || {
            assert_eq!(input.u8()?, 1, "a list");
            let count = input.u16()?;
            let name = |_| {
                assert_eq!((input.u8()?, input.u8()?), (1, XA), "a branch");
                input.u32()?;
                let name = read_bytes(&mut input)?.unwrap_or_default();
                read_bytes(&mut input)?;
                Ok(name)
            };
            (0..count).map(name).collect::<Result<Vec<_>, crate::raw::Malformed>>()
        };
        Ok(names().unwrap_or_else(|_| panic!("a list of branches: {}", answer.escape_ascii())))
    }

    fn ask_for(&mut self, transaction: Option<&Transaction>, step: Step) -> Result<Vec<u8>, Failure> {
        self.ask(TRANSACTION_INFO, |out, client| {
            out.u8(1).u8(120);
            write_text(Some(client), out);
            Transaction::write(transaction, client, out);
            out.u8(step as u8);
        })
    }
}
