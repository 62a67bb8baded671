//! A list of system calls that may be made, and its translation for the filter compiler.

use std::collections::BTreeMap;

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// What one argument of a system call must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    argument: u8,
    width: Width,
    /// Bits that are compared.
    mask: u64,
    value: u64,
}

/// Part of the argument that the kernel looks at. More than that part must not be compared: an `int` arrives with
/// whatever the C library has put above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Int,
    Long,
}

/// Argument number `argument`, counted from 0, is an `int` with this value.
pub(super) const fn int(argument: u8, value: u32) -> Check {
    Check { argument, width: Width::Int, mask: u32::MAX as u64, value: value as u64 }
}

/// Argument number `argument`, counted from 0, is a `long` or pointer with this value.
pub(super) const fn long(argument: u8, value: u64) -> Check {
    Check { argument, width: Width::Long, mask: u64::MAX, value }
}

/// The bits `mask` of argument number `argument` are those of `value`, of a `long`.
pub(super) const fn bits(argument: u8, mask: u64, value: u64) -> Check {
    Check { argument, width: Width::Long, mask, value }
}

/// The bits `mask` of argument number `argument` are those of `value`, of an `int`.
pub(super) const fn int_bits(argument: u8, mask: u32, value: u32) -> Check {
    Check { argument, width: Width::Int, mask: mask as u64, value: value as u64 }
}

impl Check {
    fn translate(self) -> Result<SeccompCondition, BackendError> {
        let (width, all) = match self.width {
            Width::Int => (SeccompCmpArgLen::Dword, u64::from(u32::MAX)),
            Width::Long => (SeccompCmpArgLen::Qword, u64::MAX),
        };
        let operator = if self.mask == all { SeccompCmpOp::Eq } else { SeccompCmpOp::MaskedEq(self.mask) };
        SeccompCondition::new(self.argument, width, operator, self.value)
    }
}

/// With which arguments a system call may be made.
#[derive(Clone, Debug)]
enum Arguments {
    Any,
    /// One of the alternatives holds; in an alternative, all checks hold.
    OneOf(Vec<Vec<Check>>),
}

/// System calls that may be made. Whatever is not here is refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(BTreeMap<i64, Arguments>);

impl Rules {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Allows `calls`, whatever their arguments.
    pub(super) fn allow(mut self, calls: impl IntoIterator<Item = i64>) -> Self {
        self.0.extend(calls.into_iter().map(|call| (call, Arguments::Any)));
        self
    }

    /// Allows `call` where all `checks` hold.
    pub(super) fn allow_if(mut self, call: i64, checks: impl Into<Vec<Check>>) -> Self {
        self.add(call, checks.into());
        self
    }

    /// Allows `call` where the `int` argument number `argument` is one of `values`.
    pub(super) fn allow_values(
        mut self,
        call: i64,
        argument: u8,
        values: impl IntoIterator<Item = u32>,
    ) -> Self {
        for value in values {
            self.add(call, vec![int(argument, value)]);
        }
        self
    }

    /// Allows what either list allows.
    pub(super) fn and(mut self, other: Self) -> Self {
        for (call, arguments) in other.0 {
            match arguments {
                Arguments::Any => self = self.allow([call]),
                Arguments::OneOf(alternatives) => {
                    for checks in alternatives {
                        self.add(call, checks);
                    }
                }
            }
        }
        self
    }

    fn add(&mut self, call: i64, checks: Vec<Check>) {
        let arguments = self.0.entry(call).or_insert_with(|| Arguments::OneOf(Vec::new()));
        if let Arguments::OneOf(alternatives) = arguments
            && !alternatives.contains(&checks)
        {
            alternatives.push(checks);
        }
    }

    /// The form of the filter compiler, where an empty chain means any arguments.
    pub(super) fn translate(&self) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
        self.0.iter().map(|(&call, arguments)| Ok((call, chain(arguments)?))).collect()
    }

    #[cfg(test)]
    pub(super) fn calls(&self) -> Vec<i64> {
        self.0.keys().copied().collect()
    }
}

fn chain(arguments: &Arguments) -> Result<Vec<SeccompRule>, BackendError> {
    let Arguments::OneOf(alternatives) = arguments else { return Ok(Vec::new()) };
    let rule = |checks: &Vec<Check>| {
        SeccompRule::new(checks.iter().map(|check| check.translate()).collect::<Result<_, _>>()?)
    };
    alternatives.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_arguments_win_over_some_in_either_order() {
        let some = Rules::new().allow_values(1, 0, [7]);
        let any = Rules::new().allow([1]);
        for rules in [some.clone().and(any.clone()), any.and(some)] {
            assert_eq!(rules.translate().unwrap(), BTreeMap::from([(1, Vec::new())]));
        }
    }

    #[test]
    fn alternatives_add_up_without_repetition() {
        let rules = Rules::new().allow_values(1, 0, [7, 8]).and(Rules::new().allow_values(1, 0, [8, 9]));
        assert_eq!(rules.translate().unwrap()[&1].len(), 3);
    }

    #[test]
    fn conditional_call_never_becomes_an_empty_chain() {
        assert!(Rules::new().allow_if(1, []).translate().is_err(), "an empty chain would allow everything");
    }
}
