//! The written form of methods and tables: `name=value` words, and tables in braces.

use super::value::{Table, Value};

/// The words after a command, in order. A word without `=` is a flag.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pairs: Vec<(String, Vec<u8>)>,
}

impl Fields {
    /// Parses words such as `queue=q durable arguments={x=I:1} body="two words"`.
    pub fn parse(text: &str) -> Self {
        let pairs = words(text).into_iter().map(|word| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), unquote(value)),
            None => (word, b"1".to_vec()),
        });
        Self { pairs: pairs.collect() }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pairs.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, _)| n == name)
    }

    pub fn text(&self, name: &str) -> &[u8] {
        self.pairs.iter().find(|(n, _)| n == name).map_or(b"", |(_, value)| value)
    }

    pub fn string(&self, name: &str) -> String {
        String::from_utf8_lossy(self.text(name)).into_owned()
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.string(name).parse().ok()
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.text(name) == b"1"
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }
}

/// Splits at spaces that stand in no quotes, braces or brackets.
pub fn words(text: &str) -> Vec<String> {
    split(text, ' ').into_iter().filter(|word| !word.is_empty()).collect()
}

fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut in_quotes, mut escaped) = (0, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_quotes = !in_quotes,
            '{' | '[' if !in_quotes => depth += 1,
            '}' | ']' if !in_quotes => depth -= 1,
            c if c == separator && depth == 0 && !in_quotes => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

/// Takes the quotes off and resolves `\n`, `\r`, `\\`, `\"` and `\xHH`; other words stay as they are.
pub fn unquote(word: &str) -> Vec<u8> {
    let Some(inner) = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return word.as_bytes().to_vec();
    };
    let mut out = Vec::new();
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                out.extend(hex(&String::from_utf8_lossy(&digits)));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Bytes from hexadecimal digits; spaces do not matter.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = String::from_utf8_lossy(pair);
        u8::from_str_radix(&pair, 16).unwrap_or_else(|_| panic!("{pair} is not hexadecimal"))
    };
    digits.chunks(2).map(byte).collect()
}

/// `{name=S:text,size=I:5}`; nothing at all is the empty table.
pub fn parse_table(text: &[u8]) -> Table {
    let text = String::from_utf8_lossy(text);
    let inner = text.trim().trim_start_matches('{');
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let pairs = split(inner, ',').into_iter().filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("{pair} is no pair"));
            (String::from_utf8_lossy(&unquote(key.trim())).into_owned(), parse_value(value.trim()))
        })
        .collect()
}

fn parse_value(text: &str) -> Value {
    if text == "V" {
        return Value::Void;
    }
    let (kind, rest) = text.split_once(':').unwrap_or_else(|| panic!("{text} has no type"));
    let octet = kind.as_bytes()[0];
    match octet {
        b'S' => Value::Text(unquote(rest)),
        b'x' => Value::Bytes(unquote(rest)),
        b't' => Value::Bool(rest == "1"),
        b'f' | b'd' => Value::Float(octet, rest.parse().expect("a float")),
        b'D' => {
            let (value, scale) = rest.split_once("e-").expect("a decimal is written 123e-2");
            Value::Decimal(scale.parse().expect("a scale"), value.parse().expect("a number"))
        }
        b'F' => Value::Table(parse_table(rest.as_bytes())),
        b'A' => {
            let inner = rest.trim_start_matches('[');
            let items = split(inner.strip_suffix(']').unwrap_or(inner), ',');
            Value::Array(items.iter().filter(|i| !i.is_empty()).map(|item| parse_value(item)).collect())
        }
        _ => Value::Integer(octet, rest.parse().unwrap_or_else(|_| panic!("{rest} is no integer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes::{Reader, Writer};
    use super::super::value::{read_table, show_table, write_table};
    use super::*;

    #[test]
    fn table_survives_the_wire_and_its_written_form() {
        let written = "{a=S:x,b=I:-5,c=t:1,d=A:[S:\"p q\",V],e=F:{n=l:7},f=D:314e-2,g=d:1.5,h=x:\"\\x00\\xff\"}";
        let table = parse_table(written.as_bytes());
        let mut out = Writer::default();
        write_table(&table, &mut out);
        let bytes = out.into_bytes();
        let read = read_table(&mut Reader::new(&bytes), 0).expect("what was written can be read");
        assert_eq!(read, table);
        assert_eq!(show_table(&read), written);
    }

    #[test]
    fn words_keep_quotes_and_tables_together() {
        let fields = Fields::parse("queue=q durable arguments={a=S:\"x y\", b=I:1} body=\"a \\\"b\\\"\\n\"");
        assert_eq!(fields.string("queue"), "q");
        assert!(fields.is_set("durable"));
        assert_eq!(fields.text("body"), b"a \"b\"\n");
        assert_eq!(parse_table(fields.text("arguments")).len(), 2);
    }
}
