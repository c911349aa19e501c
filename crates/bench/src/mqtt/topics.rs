//! Which topics a load has, who publishes to which, and who subscribes to which.

/// The topics `bench-<process id>/<number>`, all of them of equal length.
pub(crate) struct Topics {
    prefix: String,
    names: Vec<String>,
    publishers: usize,
    subscribers: usize,
    shared_group: Option<String>,
}

impl Topics {
    pub(crate) fn new(topics: usize, publishers: usize, subscribers: usize, shared_group: Option<&str>) -> Self {
        let prefix = prefix();
        Self {
            names: (0..topics as u64).map(|number| name(&prefix, number, topics as u64)).collect(),
            prefix,
            publishers,
            subscribers,
            shared_group: shared_group.map(str::to_owned),
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The topics of a publisher and how many subscribers get a copy of what is published there: one of the topics if
    /// there are enough publishers, else a round-robin share.
    pub(crate) fn of_publisher(&self, publisher: usize) -> Vec<(&str, u64)> {
        let topics = share(self.names.len(), publisher, self.publishers);
        topics.map(|topic| (self.names[topic].as_str(), self.copies(topic))).collect()
    }

    /// What a subscriber asks for. One that gets all topics asks for them by one wildcard, and so does every member of
    /// a group, among which the server divides the messages.
    pub(crate) fn filters(&self, subscriber: usize) -> Vec<String> {
        let all = if self.names.len() > 1 { format!("{}/+", self.prefix) } else { self.names.concat() };
        if let Some(group) = &self.shared_group {
            return vec![format!("$share/{group}/{all}")];
        }
        let topics: Vec<_> = share(self.names.len(), subscriber, self.subscribers).collect();
        if topics.len() == self.names.len() {
            return vec![all];
        }
        topics.into_iter().map(|topic| self.names[topic].clone()).collect()
    }

    fn copies(&self, topic: usize) -> u64 {
        if self.subscribers == 0 {
            return 0;
        }
        if self.shared_group.is_some() || self.subscribers < self.names.len() {
            return 1;
        }
        let (topics, subscribers) = (self.names.len(), self.subscribers);
        (subscribers / topics + usize::from(topic < subscribers % topics)) as u64
    }
}

/// One of so many topics. All of them are equally long.
pub(crate) fn name(prefix: &str, number: u64, topics: u64) -> String {
    let digits = topics.saturating_sub(1).to_string().len();
    format!("{prefix}/{number:0digits$}")
}

/// Of this process alone.
pub(crate) fn prefix() -> String {
    format!("bench-{}", std::process::id())
}

/// Which of `things` one of `workers` has: one of them if there are enough workers, else a round-robin share.
fn share(things: usize, worker: usize, workers: usize) -> impl Iterator<Item = usize> {
    let (first, step) = if workers >= things { (worker % things.max(1), things) } else { (worker, workers) };
    (first..things).step_by(step.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many copies each topic has by what its subscribers ask for.
    fn copies_asked_for(topics: &Topics) -> Vec<u64> {
        let filters: Vec<_> = (0..topics.subscribers).flat_map(|subscriber| topics.filters(subscriber)).collect();
        let matches = |name: &str, filter: &str| filter == name || filter.ends_with("/+");
        let count = |name: &String| filters.iter().filter(|filter| matches(name, filter)).count() as u64;
        topics.names.iter().map(count).collect()
    }

    #[test]
    fn copies_are_what_subscribers_ask_for() {
        for (topics, subscribers) in [(1, 1), (1, 1000), (1000, 1), (3, 2), (2, 3), (10, 10), (4, 0)] {
            let topics = Topics::new(topics, 1, subscribers, None);
            let told: Vec<_> = topics.of_publisher(0).into_iter().map(|(_, copies)| copies).collect();
            assert_eq!(told, copies_asked_for(&topics), "{} {subscribers}", topics.names.len());
        }
    }

    #[test]
    fn publishers_have_every_topic_between_them() {
        for (topics, publishers) in [(1, 5), (5, 1), (7, 3), (3, 7)] {
            let topics = Topics::new(topics, publishers, 1, None);
            let mut all: Vec<_> = (0..publishers).flat_map(|publisher| topics.of_publisher(publisher)).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), topics.names.len());
        }
    }

    #[test]
    fn a_group_asks_for_everything_and_gets_it_once() {
        let topics = Topics::new(3, 1, 2, Some("g"));
        assert_eq!(topics.filters(0), [format!("$share/g/{}/+", prefix())]);
        assert!(topics.of_publisher(0).iter().all(|(_, copies)| *copies == 1));
        assert_eq!(Topics::new(1, 1, 2, Some("g")).filters(1), [format!("$share/g/{}/0", prefix())]);
    }
}
