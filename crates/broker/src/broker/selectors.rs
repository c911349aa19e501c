//! Which messages of a queue a consumer wants, in the language of JMS.

use super::Broker;
use crate::{
    message::{Codecs, MessageView, Stored},
    queue::Filter,
    selector::{Selector, SelectorError, Subject},
    topology::Facts,
};

impl Broker {
    /// A filter for the messages that a JMS selector selects, whatever protocol wrote them; none if the text is blank, which
    /// selects every message. The text is parsed once.
    ///
    /// # Errors
    /// If the text is no selector; see [`Selector::parse`].
    pub fn selector(&self, text: &str) -> Result<Option<Filter>, SelectorError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(filter_of(Selector::parse(text)?, self.codecs())))
    }
}

/// A filter for the messages that a selector selects.
pub(super) fn filter_of(selector: Selector, codecs: Codecs) -> Filter {
    Filter::new(move |message: &MessageView<'_>| {
        let (codec, properties) = (codecs.of(message.origin), message.properties);
        let stored = Stored { codec, properties, annotations: message.annotation_table() };
        let headers = stored.headers();
        selector.matches(&Subject::new(&headers, &stored))
    })
}
