//! Retained messages on their way to a new subscription (section 3.3.1.3): some at a time, and no more than the client takes.

use std::{sync::Arc, task::Waker};

use broker::{
    Message, MessageView, Route, limits,
    publish::{Batch, Body},
};

use super::{MqttConnection, Phase};
use crate::{
    EXCHANGE, ORIGIN,
    message::{self, Stored},
    outgoing::OWN,
    packet::Qos,
    subscriptions::Subscription,
    sys, topic,
};

/// A subscription that gets retained messages.
#[derive(Debug)]
pub(super) struct Cursor {
    filter: Box<str>,
    subscription: Subscription,
    /// The last topic that was looked at.
    behind: Option<Box<str>>,
}

/// Pages that are looked through before others get their turn.
const PAGES: usize = 16;

impl MqttConnection {
    /// Has a subscription get what is retained.
    pub(super) fn want_retained(&mut self, filter: &str, subscription: Subscription) {
        self.cursors.retain(|cursor| *cursor.filter != *filter);
        if topic::is_of_broker(filter) {
            return sys::send(&self.outgoing, &self.sessions.sys_values(), self.broker.now(), Some(filter));
        }
        self.cursors.push_back(Cursor { filter: filter.into(), subscription, behind: None });
    }

    /// Forgets that a subscription wants retained messages.
    pub(super) fn forget_retained(&mut self, filter: &str) {
        self.cursors.retain(|cursor| *cursor.filter != *filter);
    }

    /// Sends what the client can take.
    pub(super) fn send_retained(&mut self, waker: &Waker) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        for _ in 0..PAGES {
            let Some(cursor) = self.cursors.front() else { return };
            if self.outgoing.lock().output.len() > limits::OUTPUT_BYTES_LOW || self.broker.log().congested() {
                return;
            }
            if cursor.subscription.options.qos > Qos::AtMostOnce && self.is_behind() {
                return;
            }
            let Some(caller) = &self.caller else { return };
            let (prefix, is_exact) = topic::literal_start(&cursor.filter);
            let wants = |name: &str| topic::matches(&cursor.filter, name);
            // Before looking: what is read in between must not be missed.
            self.broker.wake_when_loaded(waker);
            let behind = cursor.behind.as_deref();
            let Some(page) = self.broker.retained(caller.vhost.name(), (prefix, is_exact), behind, &wants) else {
                return;
            };
            let (filter, subscription) = (cursor.filter.clone(), cursor.subscription);
            match page.next {
                Some(next) => {
                    if let Some(cursor) = self.cursors.front_mut() {
                        cursor.behind = Some(next);
                    }
                }
                None => drop(self.cursors.pop_front()),
            }
            self.send_page(&filter, subscription, &page.messages);
        }
        waker.wake_by_ref();
    }

    /// Whether so much waits in the session's queue that what is retained can wait until the client has acknowledged some of it.
    fn is_behind(&self) -> bool {
        let own = self.outgoing.lock().source(OWN).map(|source| Arc::clone(&source.queue));
        own.is_some_and(|queue| self.broker.counts(&queue).ready > limits::LAGGING_MESSAGES)
    }

    /// Without acknowledgement messages go straight to the client; else by the session's queue, like any other.
    fn send_page(&mut self, filter: &str, subscription: Subscription, messages: &[Arc<Message>]) {
        let mut batch = Batch::default();
        let own = self.outgoing.lock().source(OWN).map(|source| Arc::clone(&source.queue));
        let ids: Vec<u32> = (subscription.id != 0).then_some(subscription.id).into_iter().collect();
        for retained in messages {
            let view = retained.view();
            let Some(stored) = Stored::read(view.properties) else { continue };
            if subscription.options.no_local && stored.publisher == self.number {
                continue;
            }
            let qos = stored.qos.min(subscription.options.qos);
            if let (true, Some(own)) = (qos > Qos::AtMostOnce, &own) {
                let properties = Stored { only_for: Some(filter), ..stored }.bytes();
                let copy = MessageView { properties: &properties, origin: ORIGIN, ..view };
                let route = Route::to(EXCHANGE.into(), Arc::clone(own));
                batch.publish(Arc::new(route), Body::Owned(Arc::new(Message::copy_of(&copy))), 0);
            } else if let Some(topic) = message::topic_of(&view) {
                self.outgoing.lock().send_at_most_once(&topic, &view, true, &ids);
            }
        }
        self.apply(&mut batch);
    }
}
