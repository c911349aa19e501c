//! Message selectors: conditions over a message's headers and properties, in the language of JMS (Jakarta Messaging 3.1,
//! section 3.8), a subset of SQL-92.
//!
//! A selector is parsed once into a tree of bounded depth. Evaluating it for a message allocates nothing, unless it asks for
//! a property that is text. Its logic has three values: what a message does not say is unknown, and only what is true
//! selects.

mod erlang;
mod expression;
mod lexer;
mod like;
mod message;
mod parser;

use std::borrow::Cow;

pub use self::message::Subject;
use self::{expression::Expression, parser::Parser};
use crate::{limits, value::Value};

/// A parsed selector.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    expression: Expression,
    /// Whether text is compared with numbers and truth values as what it says.
    converts: bool,
}

/// A selector that begins so compares text with numbers and truth values as what it says: some protocols have nothing but text
/// (`SelectorParser` in ActiveMQ).
pub const CONVERT: &str = "convert_string_expressions:";

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}")]
pub struct SelectorError {
    /// The character where the problem shows, counted from 1.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

/// What a selector's identifiers stand for.
pub trait Identifiers {
    /// The value of `name`, which is case-sensitive; [`Operand::Unknown`] if there is none.
    fn lookup(&self, name: &str) -> Operand<'_>;

    /// Whether text is compared with numbers and truth values as what it says.
    fn converts(&self) -> bool {
        false
    }
}

/// Identifiers of a selector that converts text.
struct Converting<'a>(&'a dyn Identifiers);

impl Identifiers for Converting<'_> {
    fn lookup(&self, name: &str) -> Operand<'_> {
        self.0.lookup(name)
    }

    fn converts(&self) -> bool {
        true
    }
}

/// A value as selectors see it: numbers of all widths are one of two types.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// SQL's NULL: nobody can say.
    Unknown,
    /// True or false.
    Bool(bool),
    /// An exact number.
    Integer(i64),
    /// An approximate number.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// A value of a type that selectors have no operators for. It is not NULL.
    Opaque,
}

impl<'a> From<&'a Value> for Operand<'a> {
    fn from(value: &'a Value) -> Self {
        if let Some(integer) = value.as_integer() {
            return Self::Integer(integer);
        }
        match value {
            Value::Void => Self::Unknown,
            Value::Bool(value) => Self::Bool(*value),
            Value::Timestamp(seconds) => i64::try_from(*seconds).map_or(Self::Opaque, Self::Integer),
            Value::Decimal(scale, unscaled) => Self::Float(f64::from(*unscaled) / 10f64.powi((*scale).into())),
            _ => match (value.as_float(), value.as_text()) {
                (Some(float), _) => Self::Float(float),
                (None, Some(text)) => Self::Text(text.into()),
                (None, None) => Self::Opaque,
            },
        }
    }
}

impl Operand<'_> {
    fn into_owned(self) -> Operand<'static> {
        match self {
            Self::Text(text) => Operand::Text(text.into_owned().into()),
            Self::Unknown => Operand::Unknown,
            Self::Bool(value) => Operand::Bool(value),
            Self::Integer(value) => Operand::Integer(value),
            Self::Float(value) => Operand::Float(value),
            Self::Opaque => Operand::Opaque,
        }
    }
}

impl Selector {
    /// Parses a selector, which may begin with [`CONVERT`]. A blank text is none: JMS has it select everything, which is the caller's to do.
    ///
    /// # Errors
    /// If the text is no selector, is longer than [`limits::SELECTOR_BYTES`] or nests deeper than
    /// [`limits::SELECTOR_DEPTH`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let (converts, text) = text.strip_prefix(CONVERT).map_or((false, text), |text| (true, text));
        Parser::new(text)?.selector().map(|expression| Self { expression, converts })
    }

    /// Parses a selector in the form in which RabbitMQ's JMS client sends it: compiled to the text of an Erlang term, such
    /// as `{'=',{'ident',<<"colour">>},<<"red">>}.`
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_erlang(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        erlang::parse(text).map(|expression| Self { expression, converts: false })
    }

    /// Whether the selector is true. False and unknown are not.
    pub fn matches(&self, identifiers: &dyn Identifiers) -> bool {
        self.evaluate(identifiers) == Operand::Bool(true)
    }

    /// What the selector comes to: true, false or unknown, or the value of the identifier that it consists of.
    pub fn evaluate<'a>(&'a self, identifiers: &'a dyn Identifiers) -> Operand<'a> {
        if self.converts {
            return self.expression.evaluate(&Converting(identifiers)).into_owned();
        }
        self.expression.evaluate(identifiers)
    }
}

fn check_length(text: &str) -> Result<(), SelectorError> {
    if text.len() <= limits::SELECTOR_BYTES {
        return Ok(());
    }
    let problem = format!("a selector has at most {} bytes", limits::SELECTOR_BYTES);
    Err(SelectorError { at: 1, problem })
}

/// An error at a byte of the text.
fn error_at<T>(text: &str, byte: usize, problem: impl Into<String>) -> Result<T, SelectorError> {
    let at = text.get(..byte).unwrap_or(text).chars().count() + 1;
    Err(SelectorError { at, problem: problem.into() })
}

#[cfg(test)]
mod tests;
