//! Tidy's one table: what each crate may use and must never mention. ARCHITECTURE.md has the same for people.

use Rule::{Part, Path};

/// A crate, and what it may use beside the standard library.
pub struct Crate {
    pub folder: &'static str,
    pub ours: Use,
    pub external: Use,
    /// Looked for in the code of `src`, outside of comments and texts.
    pub never: &'static [Rule],
}

pub enum Use {
    Only(&'static [&'static str]),
    Any,
}

pub enum Rule {
    /// A path such as `std::fs`, or a single word, as it is.
    Path(&'static str),
    /// A part of any name, in upper or lower case.
    Part(&'static str),
}

pub const CRATES: [Crate; 12] = [
    Crate {
        folder: "crates/broker",
        ours: Use::Only(&[]),
        external: Use::Only(&["bytes", "fancy-regex", "parking_lot", "thiserror"]),
        never: &[
            Part("tokio"),
            Part("amqp"),
            Part("mqtt"),
            Part("stomp"),
            Part("openwire"),
            Part("http"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("rand"),
            Path("getrandom"),
            Path("store"),
        ],
    },
    Crate {
        folder: "crates/store",
        ours: Use::Only(&[]),
        external: Use::Only(&["crc32fast", "parking_lot", "ring", "roaring", "rustix", "thiserror"]),
        never: &[
            Part("tokio"),
            Part("queue"),
            Part("exchange"),
            Part("amqp"),
            Part("mqtt"),
            Part("stomp"),
            Part("openwire"),
            Path("broker"),
        ],
    },
    Crate {
        folder: "crates/amqp091",
        ours: Use::Only(&["broker"]),
        external: Use::Only(&["bytes", "parking_lot", "thiserror"]),
        never: &[
            Part("tokio"),
            Part("mqtt"),
            Part("stomp"),
            Part("openwire"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("store::"),
        ],
    },
    Crate {
        folder: "crates/mqtt",
        ours: Use::Only(&["broker"]),
        external: Use::Only(&["bytes", "parking_lot"]),
        never: &[
            Part("tokio"),
            Part("amqp091"),
            Part("stomp"),
            Part("openwire"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("store::"),
        ],
    },
    Crate {
        folder: "crates/stomp",
        ours: Use::Only(&["broker"]),
        external: Use::Only(&["parking_lot"]),
        never: &[
            Part("tokio"),
            Part("amqp091"),
            Part("openwire"),
            Path("mqtt::"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("store::"),
        ],
    },
    Crate {
        folder: "crates/openwire",
        ours: Use::Only(&["broker"]),
        external: Use::Only(&["parking_lot"]),
        never: &[
            Part("tokio"),
            Part("amqp091"),
            Path("mqtt::"),
            Part("stomp"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::net"),
            Path("std::thread"),
            Path("store::"),
        ],
    },
    Crate {
        folder: "crates/admin",
        ours: Use::Only(&["broker"]),
        external: Use::Only(&[
            "anyhow",
            "axum",
            "base64",
            "parking_lot",
            "percent-encoding",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
        ]),
        never: &[
            Part("amqp091"),
            Part("stomp"),
            Part("openwire"),
            Path("Instant::now"),
            Path("SystemTime"),
            Path("std::fs"),
            Path("std::thread"),
            Path("store::"),
        ],
    },
    Crate { folder: "crates/bench", ours: Use::Only(&[]), external: Use::Any, never: &[] },
    Crate { folder: "crates/server", ours: Use::Any, external: Use::Any, never: &[] },
    Crate { folder: "tests", ours: Use::Any, external: Use::Any, never: &[] },
    Crate { folder: "xtask", ours: Use::Any, external: Use::Any, never: &[] },
    Crate { folder: "fuzz", ours: Use::Any, external: Use::Any, never: &[] },
];

impl Crate {
    /// The crate that a file of the repository belongs to.
    pub fn of(path: &str) -> Option<&'static Self> {
        CRATES.iter().find(|each| path.strip_prefix(each.folder).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Whether it may use the crate `name` of ours or of others. Tests may use more than the code.
    pub fn allows(&self, name: &str, is_ours: bool, is_for_tests: bool) -> bool {
        match if is_ours { &self.ours } else { &self.external } {
            Use::Only(names) => !is_ours && is_for_tests || names.contains(&name),
            Use::Any => true,
        }
    }
}
