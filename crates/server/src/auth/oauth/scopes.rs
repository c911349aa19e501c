//! Scopes: what a token allows, as RabbitMQ writes it. `PREFIX.read:vhost/name/key` and the same with `write` and
//! `configure`; `PREFIX.tag:administrator`. In a pattern `*` stands for anything, and what is percent-encoded for itself.

use broker::{Access, Name};

/// What a token allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    permissions: Vec<Permission>,
    /// Tags.
    pub tags: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Permission {
    access: Access,
    vhost: Pattern,
    name: Pattern,
    key: Pattern,
}

/// What stands between the stars.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<String>);

impl Scopes {
    /// Reads scopes. What does not begin with the prefix is for somebody else, and what cannot be read allows nothing.
    pub fn read<'s>(scopes: impl IntoIterator<Item = &'s str>, prefix: &str) -> Self {
        let mut read = Self::default();
        for scope in scopes {
            let Some((kind, rest)) = scope.strip_prefix(prefix).and_then(|scope| scope.split_once(':')) else {
                continue;
            };
            let access = match kind {
                "configure" => Access::Configure,
                "write" => Access::Write,
                "read" => Access::Read,
                "tag" => {
                    read.tags.push(rest.into());
                    continue;
                }
                _ => continue,
            };
            read.permissions.extend(Permission::read(access, rest));
        }
        read
    }

    /// Whether any scope is for a vhost.
    pub fn may_enter(&self, vhost: &str) -> bool {
        self.permissions.iter().any(|permission| permission.vhost.matches(vhost))
    }

    /// Whether a scope allows this access, with a routing key if there is one.
    pub fn allow(&self, access: Access, vhost: &str, name: &str, key: Option<&str>) -> bool {
        self.permissions.iter().any(|permission| {
            permission.access == access
                && permission.vhost.matches(vhost)
                && permission.name.matches(name)
                && key.is_none_or(|key| permission.key.matches(key))
        })
    }

    /// Whether there is a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| &**other == tag)
    }
}

impl Permission {
    fn read(access: Access, text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(Pattern::read);
        let (vhost, name) = (parts.next()??, parts.next()??);
        let key = match parts.next() {
            Some(key) => key?,
            None => Pattern(vec![String::new(), String::new()]),
        };
        parts.next().is_none().then_some(Self { access, vhost, name, key })
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        text.split('*').map(decode).collect::<Option<_>>().map(Self)
    }

    fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let Some((last, middle)) = rest.split_last() else { return text == first };
        let Some(mut left) = text.strip_prefix(&**first).and_then(|text| text.strip_suffix(&**last)) else {
            return false;
        };
        // Each as early as it can be leaves the most for those behind it.
        for part in middle {
            let Some((_, behind)) = left.split_once(&**part) else { return false };
            left = behind;
        }
        true
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        Scopes::read(text.split(' '), "rabbitmq.")
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "a/b"][..], &[][..]),
            ("", &[""], &["a"]),
            ("a", &["a"], &["", "aa", "A"]),
            ("a*", &["a", "ab"], &["ba"]),
            ("*a", &["a", "ba"], &["ab"]),
            ("a*b*c", &["abc", "axbyc", "abbcc"], &["ab", "acb", "abcd"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("*-%2A-*", &["x-*-y", "-*-"], &["x-y-z"]),
            ("%2F", &["/"], &["%2F"]),
            ("a%2fb", &["a/b"], &["a%2fb"]),
        ] {
            let read = Pattern::read(pattern).unwrap();
            yes.iter().for_each(|text| assert!(read.matches(text), "{pattern} matches {text}"));
            no.iter().for_each(|text| assert!(!read.matches(text), "{pattern} does not match {text}"));
        }
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(Pattern::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_scope_allows_what_it_says_and_nothing_else() {
        let scopes = scopes(
            "rabbitmq.read:%2F/orders-* rabbitmq.write:shop/amq.topic/of.* rabbitmq.tag:management other.read:*/*",
        );
        let allow = |access, vhost, name, key| scopes.allow(access, vhost, name, key);
        assert!(allow(Access::Read, "/", "orders-1", None) && !allow(Access::Read, "/", "bills", None));
        assert!(!allow(Access::Write, "/", "orders-1", None) && !allow(Access::Read, "shop", "orders-1", None));
        assert!(allow(Access::Write, "shop", "amq.topic", Some("of.me")));
        assert!(!allow(Access::Write, "shop", "amq.topic", Some("by.me")));
        assert!(allow(Access::Read, "/", "orders-1", Some("any key")));
        assert!(scopes.may_enter("/") && scopes.may_enter("shop") && !scopes.may_enter("other"));
        assert!(scopes.has_tag("management") && !scopes.has_tag("administrator"));
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        for text in [
            "rabbitmq.read:*",
            "rabbitmq.read:a/b/c/d",
            "rabbitmq.own:*/*",
            "rabbitmq.read",
            "read:*/*",
            "rabbitmq.read:%/*",
        ] {
            assert_eq!(scopes(text), Scopes::default(), "{text}");
        }
        assert!(Scopes::read(["read:*/*"], "").allow(Access::Read, "v", "n", None));
    }
}
