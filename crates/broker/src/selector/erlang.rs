//! Selectors as RabbitMQ's JMS client sends them: compiled to an Erlang term, as text.

use super::{
    Operand, SelectorError, error_at,
    expression::{Arithmetic, Comparison, Expression},
    like::Pattern,
    parser::negated,
};
use crate::limits;

/// Reads a selector, which a dot may follow.
pub(super) fn parse(text: &str) -> Result<Expression, SelectorError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let term = reader.term()?;
    reader.accept(".");
    reader.skip_space();
    if reader.rest().is_empty() { reader.expression(term) } else { reader.fail("there is something behind the term") }
}

/// A term with the byte where it begins.
struct Term {
    at: usize,
    form: Form,
}

enum Form {
    Atom(String),
    Binary(String),
    Number(Operand<'static>),
    List(Vec<Term>),
    Tuple(Vec<Term>),
}

struct Reader<'t> {
    text: &'t str,
    /// The byte that comes next.
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fail<T>(&self, problem: &str) -> Result<T, SelectorError> {
        error_at(self.text, self.at, problem)
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn accept(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn term(&mut self) -> Result<Term, SelectorError> {
        self.skip_space();
        let at = self.at;
        let form = if self.accept("{") {
            Form::Tuple(self.members("}")?)
        } else if self.accept("[") {
            Form::List(self.members("]")?)
        } else if self.accept("<<") {
            Form::Binary(self.binary()?)
        } else if self.accept("'") {
            Form::Atom(self.quoted('\'')?)
        } else if self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
            Form::Number(self.number()?)
        } else if self.rest().starts_with(|c: char| c.is_ascii_lowercase()) {
            let rest = self.rest();
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.at += len;
            Form::Atom(rest[..len].into())
        } else {
            return self.fail("expected a term");
        };
        Ok(Term { at, form })
    }

    fn members(&mut self, end: &str) -> Result<Vec<Term>, SelectorError> {
        if self.depth == limits::SELECTOR_DEPTH {
            return self.fail(&format!("a selector nests at most {} levels deep", limits::SELECTOR_DEPTH));
        }
        self.depth += 1;
        let mut members = Vec::new();
        if !self.accept(end) {
            members.push(self.term()?);
            while self.accept(",") {
                members.push(self.term()?);
            }
            if !self.accept(end) {
                return self.fail(&format!("expected ',' or '{end}'"));
            }
        }
        self.depth -= 1;
        Ok(members)
    }

    fn binary(&mut self) -> Result<String, SelectorError> {
        let value = if self.accept("\"") { self.quoted('"')? } else { String::new() };
        if self.accept(">>") { Ok(value) } else { self.fail("expected '>>'") }
    }

    /// The text up to a closing quote. A backslash takes its meaning from what follows it.
    fn quoted(&mut self, quote: char) -> Result<String, SelectorError> {
        let start = self.at;
        let mut value = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, other)) => value.push(other),
                    None => break,
                },
                _ if c == quote => {
                    self.at = start + index + 1;
                    return Ok(value);
                }
                _ => value.push(c),
            }
        }
        self.fail("the quotation has no end")
    }

    fn number(&mut self) -> Result<Operand<'static>, SelectorError> {
        let rest = self.rest();
        let mut previous = ' ';
        let mut len = 0;
        for c in rest.chars() {
            let sign = (c == '-' || c == '+') && (len == 0 || previous == 'e' || previous == 'E');
            // The last dot of all ends the term.
            let point = c == '.' && rest[len + 1..].starts_with(|c: char| c.is_ascii_digit());
            if !(c.is_ascii_digit() || sign || point || c == 'e' || c == 'E') {
                break;
            }
            len += c.len_utf8();
            previous = c;
        }
        let word = &rest[..len];
        let value = match (word.parse(), word.parse::<f64>()) {
            (Ok(integer), _) => Operand::Integer(integer),
            (Err(_), Ok(float)) if float.is_finite() && word.contains('.') => Operand::Float(float),
            _ => return self.fail("this is not a number of 64 bits"),
        };
        self.at += len;
        Ok(value)
    }

    fn expression(&self, term: Term) -> Result<Expression, SelectorError> {
        let at = term.at;
        let members = match term.form {
            Form::Tuple(members) => members,
            Form::Atom(_) | Form::Binary(_) | Form::Number(_) => return self.literal(term).map(Expression::Literal),
            Form::List(_) => return error_at(self.text, at, "a list has no place here"),
        };
        let mut members = members.into_iter();
        let Some(Term { form: Form::Atom(operator), .. }) = members.next() else {
            return error_at(self.text, at, "expected a tuple that begins with an operator");
        };
        let operands: Vec<_> = members.collect();
        match <[Term; 1]>::try_from(operands) {
            Ok([operand]) => self.unary(at, &operator, operand),
            Err(operands) => match <[Term; 2]>::try_from(operands) {
                Ok([left, right]) => self.binary_operator(at, &operator, left, right),
                Err(operands) => match <[Term; 3]>::try_from(operands) {
                    Ok(operands) => self.ternary(at, &operator, operands),
                    Err(_) => error_at(self.text, at, "no operator has as many operands"),
                },
            },
        }
    }

    fn literal(&self, term: Term) -> Result<Operand<'static>, SelectorError> {
        match term.form {
            Form::Binary(text) => Ok(Operand::Text(text.into())),
            Form::Number(value) => Ok(value),
            Form::Atom(atom) if atom == "true" => Ok(Operand::Bool(true)),
            Form::Atom(atom) if atom == "false" => Ok(Operand::Bool(false)),
            _ => error_at(self.text, term.at, "expected a literal"),
        }
    }

    fn unary(&self, at: usize, operator: &str, operand: Term) -> Result<Expression, SelectorError> {
        if operator == "ident" {
            return match operand.form {
                Form::Binary(name) => Ok(Expression::Identifier(name.into())),
                _ => error_at(self.text, operand.at, "expected the name of an identifier"),
            };
        }
        let operand = self.expression(operand)?;
        Ok(match operator {
            "not" => Expression::Not(Box::new(operand)),
            "is_null" => Expression::IsNull(Box::new(operand)),
            "not_null" => negated(true, Expression::IsNull(Box::new(operand))),
            "-" => Expression::Negate(Box::new(operand)),
            "+" => operand,
            _ => return self.unknown(at, operator),
        })
    }

    fn binary_operator(&self, at: usize, operator: &str, left: Term, right: Term) -> Result<Expression, SelectorError> {
        let left = self.expression(left)?;
        if let Some(how) = comparison(operator) {
            return Ok(Expression::Compare(how, Box::new([left, self.expression(right)?])));
        }
        if let Some(how) = arithmetic(operator) {
            return Ok(Expression::Arithmetic(Box::new(left), vec![(how, self.expression(right)?)]));
        }
        let not = operator.starts_with("not_");
        match (operator, right.form) {
            ("and", form) => Ok(joined(left, self.expression(Term { at: right.at, form })?, true)),
            ("or", form) => Ok(joined(left, self.expression(Term { at: right.at, form })?, false)),
            ("in" | "not_in", Form::List(members)) => {
                let members = members.into_iter().map(|member| self.literal(member)).collect::<Result<_, _>>()?;
                Ok(negated(not, Expression::In(Box::new(left), members)))
            }
            ("between" | "not_between", Form::Tuple(range)) => match <[Term; 3]>::try_from(range) {
                Ok([Term { form: Form::Atom(tag), .. }, from, to]) if tag == "range" => {
                    let bounds = [left, self.expression(from)?, self.expression(to)?];
                    Ok(negated(not, Expression::Between(Box::new(bounds))))
                }
                _ => error_at(self.text, right.at, "expected a range"),
            },
            _ => self.unknown(at, operator),
        }
    }

    fn ternary(&self, at: usize, operator: &str, operands: [Term; 3]) -> Result<Expression, SelectorError> {
        let not = operator.starts_with("not_");
        let [value, second, third] = operands;
        match operator {
            "between" | "not_between" => {
                let bounds = [self.expression(value)?, self.expression(second)?, self.expression(third)?];
                Ok(negated(not, Expression::Between(Box::new(bounds))))
            }
            "like" | "not_like" => {
                let value = Box::new(self.expression(value)?);
                let Form::Binary(pattern) = second.form else {
                    return error_at(self.text, second.at, "expected a pattern");
                };
                let escape = match &third.form {
                    Form::Atom(atom) if atom == "no_escape" => None,
                    Form::Binary(text) if text.chars().count() == 1 => text.chars().next(),
                    _ => return error_at(self.text, third.at, "the escape character is one character"),
                };
                let pattern =
                    Pattern::new(&pattern, escape).or_else(|problem| error_at(self.text, second.at, problem))?;
                Ok(negated(not, Expression::Like(value, pattern)))
            }
            _ => self.unknown(at, operator),
        }
    }

    fn unknown<T>(&self, at: usize, operator: &str) -> Result<T, SelectorError> {
        error_at(self.text, at, format!("'{operator}' is no operator of so many operands"))
    }
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "=" => Comparison::Equal,
        "<>" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(operator: &str) -> Option<Arithmetic> {
    Some(match operator {
        "+" => Arithmetic::Add,
        "-" => Arithmetic::Subtract,
        "*" => Arithmetic::Multiply,
        "/" => Arithmetic::Divide,
        _ => return None,
    })
}

/// Both of two conditions, or one of them.
fn joined(left: Expression, right: Expression, both: bool) -> Expression {
    match (left, both) {
        (Expression::And(mut operands), true) => {
            operands.push(right);
            Expression::And(operands)
        }
        (Expression::Or(mut operands), false) => {
            operands.push(right);
            Expression::Or(operands)
        }
        (left, true) => Expression::And(vec![left, right]),
        (left, false) => Expression::Or(vec![left, right]),
    }
}
