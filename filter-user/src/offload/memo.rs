//! Remembering what was computed for the same input.

/// How many answers are at hand.
const SLOTS: usize = 64;

/// A function of two labels that remembers recent answers: of the pieces of a partition, millions have the same
/// few labels, and hashing each would take longer than all the rest of the compilation.
pub(super) struct Memo<F> {
    recent: [Option<((u32, u32), u32)>; SLOTS],
    answer: F,
}

impl<F: FnMut(u32, u32) -> u32> Memo<F> {
    /// The same labels must always have the same answer.
    pub(super) fn new(answer: F) -> Self {
        Self { recent: [None; SLOTS], answer }
    }

    pub(super) fn get(&mut self, a: u32, b: u32) -> u32 {
        let slot = &mut self.recent[(a.wrapping_mul(31).wrapping_add(b)) as usize % SLOTS];
        match slot {
            Some((asked, known)) if *asked == (a, b) => *known,
            _ => {
                let answer = (self.answer)(a, b);
                *slot = Some(((a, b), answer));
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Memo, SLOTS};

    #[test]
    fn answers_are_those_of_the_function_and_repeated_questions_are_not_asked() {
        let mut asked = 0;
        let mut memo = Memo::new(|a, b| {
            asked += 1;
            a * 1000 + b
        });
        // Twice as many as there are slots, so that every one is used for several.
        for a in 0..4 {
            for b in 0..SLOTS as u32 / 2 {
                for _ in 0..10 {
                    assert_eq!(memo.get(a, b), a * 1000 + b);
                }
            }
        }
        assert_eq!(memo.get(u32::MAX / 1001, 7), u32::MAX / 1001 * 1000 + 7);
        assert_eq!(asked, 2 * SLOTS + 1);
    }
}
