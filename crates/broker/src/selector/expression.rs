//! The tree of a selector, and what it comes to for a message.

use std::cmp::Ordering;

use super::{Identifiers, Operand, like::Pattern};
use crate::value::Name;

/// A node. Chains of one operator are one node, so the depth of the tree is that of the parentheses in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Operand<'static>),
    Identifier(Name),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Compare(Comparison, Box<[Self; 2]>),
    /// A value, and the bounds between which it is to lie.
    Between(Box<[Self; 3]>),
    In(Box<Self>, Vec<Operand<'static>>),
    Like(Box<Self>, Pattern),
    IsNull(Box<Self>),
    Negate(Box<Self>),
    /// A first operand, and what is done to it from left to right.
    Arithmetic(Box<Self>, Vec<(Arithmetic, Self)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// The type of an expression, as far as the text alone says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Number,
    Text,
    /// That of an identifier's value.
    Any,
}

impl Expression {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Literal(Operand::Integer(_) | Operand::Float(_)) | Self::Negate(_) | Self::Arithmetic(..) => {
                Kind::Number
            }
            Self::Literal(Operand::Text(_)) => Kind::Text,
            Self::Literal(Operand::Unknown | Operand::Opaque) | Self::Identifier(_) => Kind::Any,
            _ => Kind::Bool,
        }
    }

    pub(super) fn evaluate<'a>(&'a self, identifiers: &'a dyn Identifiers) -> Operand<'a> {
        match self {
            Self::Literal(Operand::Text(text)) => Operand::Text((&**text).into()),
            Self::Literal(value) => value.clone(),
            Self::Identifier(name) => identifiers.lookup(name),
            Self::Not(operand) => match operand.evaluate(identifiers) {
                Operand::Bool(value) => Operand::Bool(!value),
                _ => Operand::Unknown,
            },
            Self::And(operands) => combine(operands, identifiers, false),
            Self::Or(operands) => combine(operands, identifiers, true),
            Self::Compare(how, operands) => {
                let [left, right] = &**operands;
                let (left, right) = (left.evaluate(identifiers), right.evaluate(identifiers));
                if identifiers.converts() { how.apply_converted(&left, &right) } else { how.apply(&left, &right) }
            }
            Self::Between(operands) => {
                let [value, from, to] = operands.each_ref().map(|operand| operand.evaluate(identifiers));
                let apply = if identifiers.converts() { Comparison::apply_converted } else { Comparison::apply };
                let bounds =
                    [apply(Comparison::GreaterOrEqual, &value, &from), apply(Comparison::LessOrEqual, &value, &to)];
                three_valued(bounds.into_iter(), false)
            }
            Self::In(operand, list) => match operand.evaluate(identifiers) {
                Operand::Unknown => Operand::Unknown,
                value => three_valued(list.iter().map(|member| Comparison::Equal.apply(&value, member)), true),
            },
            Self::Like(operand, pattern) => match operand.evaluate(identifiers) {
                Operand::Text(text) => Operand::Bool(pattern.matches(&text)),
                _ => Operand::Unknown,
            },
            Self::IsNull(operand) => Operand::Bool(operand.evaluate(identifiers) == Operand::Unknown),
            Self::Negate(operand) => match operand.evaluate(identifiers) {
                Operand::Integer(value) => Operand::Integer(value.wrapping_neg()),
                Operand::Float(value) => Operand::Float(-value),
                _ => Operand::Unknown,
            },
            Self::Arithmetic(first, steps) => {
                let start = first.evaluate(identifiers);
                steps.iter().fold(start, |left, (how, right)| how.apply(&left, &right.evaluate(identifiers)))
            }
        }
    }
}

/// Conjunction, which one false decides, or disjunction, which one true decides.
fn combine<'a>(operands: &'a [Expression], identifiers: &'a dyn Identifiers, decisive: bool) -> Operand<'a> {
    three_valued(operands.iter().map(|operand| operand.evaluate(identifiers)), decisive)
}

fn three_valued<'a>(operands: impl Iterator<Item = Operand<'a>>, decisive: bool) -> Operand<'static> {
    let mut result = Operand::Bool(!decisive);
    for operand in operands {
        match operand {
            Operand::Bool(value) if value == decisive => return Operand::Bool(decisive),
            Operand::Bool(_) => {}
            _ => result = Operand::Unknown,
        }
    }
    result
}

impl Comparison {
    /// What is of different types cannot be compared, and text and truth values have no order: the result is unknown.
    fn apply(self, left: &Operand<'_>, right: &Operand<'_>) -> Operand<'static> {
        let by_order = |order: Option<Ordering>| Operand::Bool(self.holds(order));
        let by_equality = |equal: bool| match self {
            Self::Equal => Operand::Bool(equal),
            Self::NotEqual => Operand::Bool(!equal),
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => Operand::Unknown,
        };
        match (left, right) {
            (Operand::Integer(left), Operand::Integer(right)) => by_order(Some(left.cmp(right))),
            (Operand::Text(left), Operand::Text(right)) => by_equality(left == right),
            (Operand::Bool(left), Operand::Bool(right)) => by_equality(left == right),
            _ => match (left.as_float(), right.as_float()) {
                (Some(left), Some(right)) => by_order(left.partial_cmp(&right)),
                _ => Operand::Unknown,
            },
        }
    }

    /// The same, where text is what it says if the other is no text. Text that says nothing of the kind is no match.
    fn apply_converted(self, left: &Operand<'_>, right: &Operand<'_>) -> Operand<'static> {
        let (other, text) = match (left, right) {
            (Operand::Text(text), other) | (other, Operand::Text(text)) => (other, text.trim()),
            _ => return self.apply(left, right),
        };
        let converted = match other {
            Operand::Bool(_) => Some(Operand::Bool(text.eq_ignore_ascii_case("true"))),
            Operand::Integer(_) | Operand::Float(_) => {
                let float = || text.parse().ok().map(Operand::Float);
                text.parse().ok().map(Operand::Integer).or_else(float)
            }
            _ => return self.apply(left, right),
        };
        match (converted, left) {
            (None, _) => Operand::Bool(false),
            (Some(converted), Operand::Text(_)) => self.apply(&converted, right),
            (Some(converted), _) => self.apply(left, &converted),
        }
    }

    /// Whether the comparison holds for operands in this order. What is not a number has none.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

impl Arithmetic {
    /// Exact numbers wrap around as in Java; dividing them by zero, an error there, has no known result.
    fn apply(self, left: &Operand<'_>, right: &Operand<'_>) -> Operand<'static> {
        if let (Operand::Integer(left), Operand::Integer(right)) = (left, right) {
            let (left, right) = (*left, *right);
            return match self {
                Self::Add => Operand::Integer(left.wrapping_add(right)),
                Self::Subtract => Operand::Integer(left.wrapping_sub(right)),
                Self::Multiply => Operand::Integer(left.wrapping_mul(right)),
                Self::Divide if right == 0 => Operand::Unknown,
                Self::Divide => Operand::Integer(left.wrapping_div(right)),
            };
        }
        let (Some(left), Some(right)) = (left.as_float(), right.as_float()) else { return Operand::Unknown };
        Operand::Float(match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
        })
    }
}

impl Operand<'_> {
    /// A number of either type, as an approximate one.
    fn as_float(&self) -> Option<f64> {
        match *self {
            Self::Integer(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            _ => None,
        }
    }
}
