//! The grammar, by recursive descent. From the loosest operator to the tightest: `OR`, `AND`, `NOT`, comparisons, sums,
//! products, signs.

use super::{
    Operand, SelectorError, error_at,
    expression::{Arithmetic, Comparison, Expression, Kind},
    lexer::{Keyword, Lexer, Token},
    like::Pattern,
};
use crate::limits;

/// Reads a selector with one word of look-ahead.
#[derive(Debug)]
pub(super) struct Parser<'t> {
    lexer: Lexer<'t>,
    next: Token,
    /// Where `next` begins.
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self, SelectorError> {
        let mut lexer = Lexer::new(text);
        let (at, next) = lexer.next()?;
        Ok(Self { lexer, next, at, depth: 0 })
    }

    /// All of the text.
    pub(super) fn selector(&mut self) -> Result<Expression, SelectorError> {
        let start = self.at;
        let expression = self.disjunction()?;
        self.require(start, &expression, Kind::Bool)?;
        match self.next {
            Token::End => Ok(expression),
            _ => self.unexpected("an operator"),
        }
    }

    fn disjunction(&mut self) -> Result<Expression, SelectorError> {
        self.chain(Keyword::Or, Self::conjunction, Expression::Or)
    }

    fn conjunction(&mut self) -> Result<Expression, SelectorError> {
        self.chain(Keyword::And, Self::negation, Expression::And)
    }

    fn chain(
        &mut self,
        keyword: Keyword,
        operand: fn(&mut Self) -> Result<Expression, SelectorError>,
        node: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, SelectorError> {
        let start = self.at;
        let first = operand(self)?;
        if self.next != Token::Keyword(keyword) {
            return Ok(first);
        }
        self.require(start, &first, Kind::Bool)?;
        let mut operands = vec![first];
        while self.accept(&Token::Keyword(keyword))? {
            let start = self.at;
            let next = operand(self)?;
            self.require(start, &next, Kind::Bool)?;
            operands.push(next);
        }
        Ok(node(operands))
    }

    fn negation(&mut self) -> Result<Expression, SelectorError> {
        if !self.accept(&Token::Keyword(Keyword::Not))? {
            return self.predicate();
        }
        let start = self.at;
        let operand = self.nested(Self::negation)?;
        self.require(start, &operand, Kind::Bool)?;
        Ok(Expression::Not(Box::new(operand)))
    }

    fn predicate(&mut self) -> Result<Expression, SelectorError> {
        let start = self.at;
        let left = self.sum()?;
        if let Some(how) = self.comparison()? {
            let right_start = self.at;
            let right = self.sum()?;
            self.check_comparison(how, (start, &left), (right_start, &right))?;
            return Ok(Expression::Compare(how, Box::new([left, right])));
        }
        if self.accept(&Token::Keyword(Keyword::Is))? {
            let not = self.accept(&Token::Keyword(Keyword::Not))?;
            self.expect(&Token::Keyword(Keyword::Null))?;
            return Ok(negated(not, Expression::IsNull(Box::new(left))));
        }
        let not = self.accept(&Token::Keyword(Keyword::Not))?;
        let Token::Keyword(keyword) = self.next else {
            return if not { self.unexpected("BETWEEN, IN or LIKE") } else { Ok(left) };
        };
        let test = match keyword {
            Keyword::Between => self.between(start, left)?,
            Keyword::In => Expression::In(Box::new(left), self.list()?),
            Keyword::Like => {
                self.require(start, &left, Kind::Text)?;
                Expression::Like(Box::new(left), self.pattern()?)
            }
            _ if not => return self.unexpected("BETWEEN, IN or LIKE"),
            _ => return Ok(left),
        };
        Ok(negated(not, test))
    }

    fn comparison(&mut self) -> Result<Option<Comparison>, SelectorError> {
        let Token::Symbol(symbol) = self.next else { return Ok(None) };
        let how = match symbol {
            "=" => Comparison::Equal,
            "<>" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(how))
    }

    fn between(&mut self, start: usize, value: Expression) -> Result<Expression, SelectorError> {
        self.advance()?;
        self.require(start, &value, Kind::Number)?;
        let start = self.at;
        let from = self.sum()?;
        self.require(start, &from, Kind::Number)?;
        self.expect(&Token::Keyword(Keyword::And))?;
        let start = self.at;
        let to = self.sum()?;
        self.require(start, &to, Kind::Number)?;
        Ok(Expression::Between(Box::new([value, from, to])))
    }

    fn list(&mut self) -> Result<Vec<Operand<'static>>, SelectorError> {
        self.advance()?;
        self.expect(&Token::Symbol("("))?;
        let mut members = Vec::new();
        loop {
            let start = self.at;
            match self.sign()? {
                Expression::Literal(value) => members.push(value),
                _ => return error_at(self.lexer.text(), start, "IN takes a list of literals"),
            }
            if !self.accept(&Token::Symbol(","))? {
                self.expect(&Token::Symbol(")"))?;
                return Ok(members);
            }
        }
    }

    fn pattern(&mut self) -> Result<Pattern, SelectorError> {
        self.advance()?;
        let start = self.at;
        let text = self.string("a pattern")?;
        let mut escape = None;
        if self.accept(&Token::Keyword(Keyword::Escape))? {
            let start = self.at;
            let text = self.string("the escape character")?;
            let mut chars = text.chars();
            escape = chars.next();
            if escape.is_none() || chars.next().is_some() {
                return error_at(self.lexer.text(), start, "the escape character is one character");
            }
        }
        Pattern::new(&text, escape).or_else(|problem| error_at(self.lexer.text(), start, problem))
    }

    fn string(&mut self, wanted: &str) -> Result<String, SelectorError> {
        let Token::Text(text) = &mut self.next else { return self.unexpected(wanted) };
        let text = std::mem::take(text);
        self.advance()?;
        Ok(text)
    }

    fn sum(&mut self) -> Result<Expression, SelectorError> {
        self.arithmetic(&[("+", Arithmetic::Add), ("-", Arithmetic::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Expression, SelectorError> {
        self.arithmetic(&[("*", Arithmetic::Multiply), ("/", Arithmetic::Divide)], Self::sign)
    }

    fn arithmetic(
        &mut self,
        operators: &[(&str, Arithmetic)],
        operand: fn(&mut Self) -> Result<Expression, SelectorError>,
    ) -> Result<Expression, SelectorError> {
        let start = self.at;
        let first = operand(self)?;
        let mut steps = Vec::new();
        while let Token::Symbol(symbol) = self.next
            && let Some((_, how)) = operators.iter().find(|(operator, _)| *operator == symbol)
        {
            self.advance()?;
            let start = self.at;
            let next = operand(self)?;
            self.require(start, &next, Kind::Number)?;
            steps.push((*how, next));
        }
        if steps.is_empty() {
            return Ok(first);
        }
        self.require(start, &first, Kind::Number)?;
        Ok(Expression::Arithmetic(Box::new(first), steps))
    }

    fn sign(&mut self) -> Result<Expression, SelectorError> {
        let negative = match self.next {
            Token::Symbol("-") => true,
            Token::Symbol("+") => false,
            _ => return self.primary(),
        };
        self.advance()?;
        let start = self.at;
        if let Token::Integer(magnitude) = self.next
            && negative
        {
            self.advance()?;
            return Ok(Expression::Literal(Operand::Integer((magnitude as i64).wrapping_neg())));
        }
        let operand = self.nested(Self::sign)?;
        self.require(start, &operand, Kind::Number)?;
        Ok(match operand {
            Expression::Literal(Operand::Float(value)) if negative => Expression::Literal(Operand::Float(-value)),
            operand if negative => Expression::Negate(Box::new(operand)),
            operand => operand,
        })
    }

    fn primary(&mut self) -> Result<Expression, SelectorError> {
        let start = self.at;
        let value = match &mut self.next {
            Token::Identifier(name) => Expression::Identifier(std::mem::take(name).into()),
            Token::Text(text) => Expression::Literal(Operand::Text(std::mem::take(text).into())),
            Token::Integer(magnitude) => match i64::try_from(*magnitude) {
                Ok(value) => Expression::Literal(Operand::Integer(value)),
                Err(_) => return error_at(self.lexer.text(), start, "the number has more than 64 bits"),
            },
            Token::Float(value) => Expression::Literal(Operand::Float(*value)),
            Token::Keyword(Keyword::True) => Expression::Literal(Operand::Bool(true)),
            Token::Keyword(Keyword::False) => Expression::Literal(Operand::Bool(false)),
            Token::Symbol("(") => {
                self.advance()?;
                let inner = self.nested(Self::disjunction)?;
                self.expect(&Token::Symbol(")"))?;
                return Ok(inner);
            }
            _ => return self.unexpected("an identifier, a literal or '('"),
        };
        self.advance()?;
        Ok(value)
    }

    fn nested(
        &mut self,
        inner: fn(&mut Self) -> Result<Expression, SelectorError>,
    ) -> Result<Expression, SelectorError> {
        if self.depth == limits::SELECTOR_DEPTH {
            let problem = format!("a selector nests at most {} levels deep", limits::SELECTOR_DEPTH);
            return error_at(self.lexer.text(), self.at, problem);
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn advance(&mut self) -> Result<(), SelectorError> {
        (self.at, self.next) = self.lexer.next()?;
        Ok(())
    }

    fn accept(&mut self, token: &Token) -> Result<bool, SelectorError> {
        let found = self.next == *token;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, token: &Token) -> Result<(), SelectorError> {
        if self.accept(token)? { Ok(()) } else { self.unexpected(&token.to_string()) }
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, SelectorError> {
        error_at(self.lexer.text(), self.at, format!("expected {wanted}, found {}", self.next))
    }

    /// Checks the type of an operand that begins at `start`.
    fn require(&self, start: usize, operand: &Expression, wanted: Kind) -> Result<(), SelectorError> {
        let name = match wanted {
            _ if operand.kind() == wanted || operand.kind() == Kind::Any => return Ok(()),
            Kind::Bool => "a condition",
            Kind::Number => "a number",
            Kind::Text => "text",
            Kind::Any => return Ok(()),
        };
        error_at(self.lexer.text(), start, format!("expected {name}"))
    }

    fn check_comparison(
        &self,
        how: Comparison,
        (left_start, left): (usize, &Expression),
        (right_start, right): (usize, &Expression),
    ) -> Result<(), SelectorError> {
        if !matches!(how, Comparison::Equal | Comparison::NotEqual) {
            self.require(left_start, left, Kind::Number)?;
            return self.require(right_start, right, Kind::Number);
        }
        if left.kind() == Kind::Any { Ok(()) } else { self.require(right_start, right, left.kind()) }
    }
}

pub(super) fn negated(not: bool, expression: Expression) -> Expression {
    if not { Expression::Not(Box::new(expression)) } else { expression }
}
