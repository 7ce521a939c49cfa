//! Whether one of two things that were measured in pairs is slower, or whether it only looks so: machines are shared, and two
//! measurements of the same thing differ.

/// What is not worth a word, as a share: two builds of the same sources differ by as much where code and data come to lie.
const NOTHING: f64 = 0.02;

/// How this one compares with the other one in one respect; more is worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The middle one of the ratios.
    pub ratio: f64,
    /// By how much it may be off: twice its standard error.
    pub noise: f64,
}

impl Verdict {
    /// From the ratio of each pair. The standard error of a median is 1.25 of that of a mean, and the deviation is taken from the middle
    /// distance (1.48 of it, as of a normal distribution), which one disturbed pair does not move.
    #[must_use]
    pub fn of(ratios: &[f64]) -> Self {
        let ratio = middle(ratios.iter().copied());
        let distance = middle(ratios.iter().map(|one| (one - ratio).abs()));
        Self { ratio, noise: 2.0 * 1.25 * 1.48 * distance / (ratios.len().max(1) as f64).sqrt() }
    }

    /// Whether it is worse beyond noise.
    #[must_use]
    pub fn is_loss(self) -> bool {
        self.ratio - self.noise > 1.0 + NOTHING
    }
}

/// The middle one of some numbers, of an even count the upper one of the two; 0 of none.
#[must_use]
pub fn middle(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_what_noise_does_not_explain() {
        for (ratios, loss) in [
            // The same, and a little noise.
            (vec![1.0, 1.01, 0.99, 1.0, 1.02, 0.98], false),
            // Slower by a tenth, and calm.
            (vec![1.1, 1.11, 1.09, 1.1, 1.12, 1.08], true),
            // Slower by a tenth, and so restless that nobody knows.
            (vec![1.1, 1.4, 0.8, 1.3, 0.7, 1.2], false),
            // One disturbed pair says nothing.
            (vec![1.0, 1.01, 0.99, 5.0, 1.0, 1.01], false),
            // Less than two builds of the same differ.
            (vec![1.015; 8], false),
            // Faster.
            (vec![0.8; 8], false),
            (vec![], false),
        ] {
            assert_eq!(Verdict::of(&ratios).is_loss(), loss, "{ratios:?}");
        }
    }
}
