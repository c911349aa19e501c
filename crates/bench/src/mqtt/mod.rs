//! MQTT 3.1.1 and 5: loads with thousands of connections, idle connections, storms of them, and retained messages.
//!
//! `load` puts a load together from `publisher` and `subscriber`, which have a thread each (or a few) for all of their
//! connections: a `link` never blocks, and a `poller` waits for all of them. `wire` is the protocol, a `stencil` makes
//! messages without encoding them anew, `tally` finds the ones that come twice. A `gate` keeps publishers from running
//! away from the subscribers. `dialer` opens connections, for the loads and for `storm` and `idle`; `retained` fills a
//! broker with retained messages by a `courier`; `cells` is the table of topologies, QoS and sizes.

pub(crate) mod cells;
mod courier;
mod dialer;
mod gate;
pub(crate) mod idle;
mod inflight;
mod limits;
mod link;
pub(crate) mod load;
pub(crate) mod options;
pub(crate) mod pace;
mod poller;
mod publisher;
pub(crate) mod retained;
mod stencil;
pub(crate) mod storm;
mod subscriber;
mod tally;
mod topics;
mod wire;
