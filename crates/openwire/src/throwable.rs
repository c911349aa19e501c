//! Exceptions of Java, as data: nothing is made of a class's name but text.

use std::fmt;

use crate::{
    error::Malformed,
    lent::Text,
    reader::Reader,
    structure::{Field, Owned},
    writer::Writer,
};

/// An exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Throwable<'a> {
    /// The class, such as `javax.jms.InvalidDestinationException`.
    pub class: Option<Text<'a>>,
    /// What happened.
    pub message: Option<Text<'a>>,
    /// Where, innermost call first. It is only sent on connections with stack traces.
    pub stack_trace: Vec<StackTraceElement<'a>>,
    /// Why. It is only sent on connections with stack traces.
    pub cause: Option<Box<Self>>,
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StackTraceElement<'a> {
    /// The class.
    pub class: Option<Text<'a>>,
    /// The method.
    pub method: Option<Text<'a>>,
    /// The source file.
    pub file: Option<Text<'a>>,
    /// The line; below 0 if it is not known.
    pub line: i32,
}

impl<'a> Throwable<'a> {
    /// An exception without a stack trace.
    pub fn new(class: impl Into<Text<'a>>, message: impl Into<Text<'a>>) -> Self {
        Self { class: Some(class.into()), message: Some(message.into()), ..Self::default() }
    }
}

impl fmt::Display for Throwable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.as_deref().unwrap_or_default())?;
        self.message.iter().try_for_each(|message| write!(f, ": {message}"))
    }
}

impl<'a> Field<'a> for Option<Box<Throwable<'a>>> {
    fn read<const TIGHT: bool>(from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
        if !from.flag()? {
            return Ok(None);
        }
        let mut throwable = Throwable { class: from.text()?, message: from.text()?, ..Throwable::default() };
        if from.has_stack_traces {
            throwable.stack_trace = from.list(StackTraceElement::read)?;
            throwable.cause = from.deeper(Self::read)?;
        }
        Ok(Some(Box::new(throwable)))
    }

    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
        to.flag(self.is_some());
        let Some(throwable) = self else { return };
        throwable.class.write(to);
        throwable.message.write(to);
        if to.has_stack_traces {
            to.list(&throwable.stack_trace, |to, element| element.write(to));
            throwable.cause.write(to);
        }
    }
}

impl<'a> Field<'a> for StackTraceElement<'a> {
    fn read<const TIGHT: bool>(from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
        from.part()?;
        Ok(Self { class: from.text()?, method: from.text()?, file: from.text()?, line: Field::read(from)? })
    }

    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
        self.class.write(to);
        self.method.write(to);
        self.file.write(to);
        self.line.write(to);
    }
}

impl Owned for Throwable<'_> {
    type Owned = Throwable<'static>;

    fn into_owned(self) -> Self::Owned {
        Throwable {
            class: self.class.into_owned(),
            message: self.message.into_owned(),
            stack_trace: self.stack_trace.into_owned(),
            cause: self.cause.into_owned(),
        }
    }
}

impl Owned for StackTraceElement<'_> {
    type Owned = StackTraceElement<'static>;

    fn into_owned(self) -> Self::Owned {
        StackTraceElement {
            class: self.class.into_owned(),
            method: self.method.into_owned(),
            file: self.file.into_owned(),
            line: self.line,
        }
    }
}
