//! What is left of a load when it is over.

use std::time::{Duration, Instant};

use super::consumer::Acks;
use super::dialect::{AckMode, Destination, Dialect, SETUP, Signal, Subscription};
use super::link::Link;
use super::openwire;
use crate::error::Error;
use crate::inbox::Fill;
use crate::uri::Uri;

const GOODBYE_WAIT: Duration = Duration::from_secs(2);
/// A queue that gives nothing for so long is empty.
const EMPTY_AFTER: Duration = Duration::from_millis(500);

/// Deletes queues, or, with STOMP, takes what is in them.
pub(crate) fn delete(uri: &Uri, queues: &[String]) -> Result<(), Error> {
    for name in queues {
        let mut link = Link::open(uri)?;
        let destination = Destination { name, is_topic: false };
        match link.dialect {
            Dialect::OpenWire => {
                let delete = openwire::delete(SETUP, &link.client, destination);
                link.call(&delete, SETUP, |_| ())?;
            }
            Dialect::Stomp => empty(&mut link, destination)?,
        }
        link.close(GOODBYE_WAIT)?;
    }
    Ok(())
}

fn empty(link: &mut Link, destination: Destination<'_>) -> Result<(), Error> {
    let client = link.client.clone();
    let subscription =
        Subscription { destination, client: &client, prefetch: 1000, mode: AckMode::Range, selector: None };
    let mut acks = Acks::new(link.dialect, &subscription, 500);
    let subscribe = link.dialect.subscribe(SETUP, &subscription);
    link.call(&subscribe, SETUP, |delivery| acks.see(&delivery))?;
    let mut moved = Instant::now();
    while moved.elapsed() < EMPTY_AFTER {
        let fill = link.fill()?;
        while let Some(signal) = link.next()? {
            if let Signal::Delivery(delivery) = signal {
                acks.see(&delivery);
                moved = Instant::now();
            }
        }
        if fill == Fill::Nothing {
            acks.flush();
        }
        if !link.send_until(&acks.out, || moved.elapsed() > GOODBYE_WAIT)? {
            return Err(Error::Timeout("the server takes nothing"));
        }
        acks.out.clear();
    }
    Ok(())
}
