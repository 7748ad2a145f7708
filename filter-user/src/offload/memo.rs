//! Remembering what was computed for the same input.

use super::{ClassId, decide::Denial};

/// How many answers are at hand.
const SLOTS: usize = 64;

/// A function of a class and what denies it that remembers recent answers: of the pieces of a partition, millions have
/// the same few labels, and hashing each would take longer than all the rest of the compilation.
pub(super) struct Memo<F> {
    recent: [Option<((ClassId, Denial), ClassId)>; SLOTS],
    answer: F,
}

impl<F: FnMut(ClassId, Denial) -> ClassId> Memo<F> {
    /// The same arguments must always have the same answer.
    pub(super) fn new(answer: F) -> Self {
        Self { recent: [None; SLOTS], answer }
    }

    pub(super) fn get(&mut self, class: ClassId, denial: Denial) -> ClassId {
        let slot = &mut self.recent[class.0.wrapping_mul(31).wrapping_add(denial.number()) as usize % SLOTS];
        match slot {
            Some((asked, known)) if *asked == (class, denial) => *known,
            _ => {
                let answer = (self.answer)(class, denial);
                *slot = Some(((class, denial), answer));
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RuleId;

    /// The question and its only right answer.
    fn asked_and_right(class: u32, rule: u32) -> (ClassId, Denial, ClassId) {
        (ClassId(class), RuleId(rule).into(), ClassId(class * 1000 + rule))
    }

    #[test]
    fn answers_are_those_of_the_function_and_repeated_questions_are_not_asked() {
        let mut asked = 0;
        let mut memo = Memo::new(|class, denial: Denial| {
            asked += 1;
            ClassId(class.0 * 1000 + denial.number())
        });
        // Twice as many as there are slots, so that every one is used for several.
        for class in 0..4 {
            for rule in 0..SLOTS as u32 / 2 {
                for _ in 0..10 {
                    let (class, denial, right) = asked_and_right(class, rule);
                    assert_eq!(memo.get(class, denial), right);
                }
            }
        }
        let (class, denial, right) = asked_and_right(u32::MAX / 1001, 7);
        assert_eq!(memo.get(class, denial), right);
        assert_eq!(asked, 2 * SLOTS + 1);
    }
}
