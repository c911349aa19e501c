//! Answers.

use crate::{
    command::Command,
    lent::Text,
    structure::{Base, structures},
    throwable::Throwable,
};

structures! {
    /// It is done.
    command Response = 30 {
        /// The number of the command that it answers.
        correlation_id: i32,
    }

    /// It failed.
    command ExceptionResponse<'a> = 31 {
        /// The number of the command that it answers.
        correlation_id: i32,
        /// Why.
        exception: Option<Box<Throwable<'a>>>,
    }

    /// It is done, and here is what was asked for.
    command DataResponse<'a> = 32 {
        /// The number of the command that it answers.
        correlation_id: i32,
        /// What was asked for.
        data: Option<Box<Command<'a>>>,
    }

    /// It is done, and here are those that were asked for.
    command DataArrayResponse<'a> = 33 {
        /// The number of the command that it answers.
        correlation_id: i32,
        /// What was asked for.
        data: Option<Vec<Command<'a>>>,
    }

    /// It is done, and here is a number that was asked for.
    command IntegerResponse = 34 {
        /// The number of the command that it answers.
        correlation_id: i32,
        /// What was asked for.
        result: i32,
    }
}

impl Response {
    /// Of the command with that number.
    pub fn to(correlation_id: i32) -> Self {
        Self { correlation_id, ..Self::default() }
    }
}

impl<'a> ExceptionResponse<'a> {
    /// Of the command with that number.
    pub fn to(correlation_id: i32, class: impl Into<Text<'a>>, message: impl Into<Text<'a>>) -> Self {
        Self { correlation_id, exception: Some(Throwable::new(class, message).into()), ..Self::default() }
    }
}
