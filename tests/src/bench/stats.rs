//! Medians with their spread, free of assumptions on the noise.

use std::fmt;

/// Some measurements of the same thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    /// From measurements in any order. `None` when there are none, or one is no number.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| v.is_nan()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Self { sorted: values })
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The value below which this share of the measurements lies, interpolated.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let at = share.clamp(0.0, 1.0) * (self.sorted.len() - 1) as f64;
        let (below, part) = (at.floor() as usize, at.fract());
        let above = (below + 1).min(self.sorted.len() - 1);
        self.sorted[below].mul_add(1.0 - part, self.sorted[above] * part)
    }

    /// The middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The largest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// An interval that holds the true median, and how sure that is (at least 0.95, or as sure as so few
    /// measurements allow). The sign test's: each measurement is as likely above the true median as
    /// below it, and nothing else is assumed of the noise.
    #[must_use]
    pub fn median_interval(&self) -> (f64, f64, f64) {
        const WANTED: f64 = 0.95;
        let n = self.sorted.len();
        let mut best = (0, sureness(n, 0));
        for cut in 1..n.div_ceil(2) {
            let sure = sureness(n, cut);
            if sure < WANTED {
                break;
            }
            best = (cut, sure);
        }
        let (cut, sure) = best;
        (self.sorted[cut], self.sorted[n - 1 - cut], sure)
    }
}

/// How sure the interval is that leaves out `cut` measurements at each end: 1 - 2 P(Bin(n, ½) ≤ cut).
fn sureness(n: usize, cut: usize) -> f64 {
    let mut term = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for i in 0..=cut {
        below += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    2.0f64.mul_add(-below, 1.0).max(0.0)
}

/// In per cent, with signs: median, quartiles, and the interval of the median.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high, sure) = self.median_interval();
        write!(
            f,
            "quartiles {:+.2} … {:+.2} %, {:.0} % interval of the median {low:+.2} … {high:+.2} %, n = {}",
            self.quantile(0.25),
            self.quantile(0.75),
            sure * 100.0,
            self.count(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.to_vec()).expect("numbers")
    }

    #[test]
    fn quantiles_are_interpolated() {
        let s = spread(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((s.median(), s.quantile(0.0), s.max()), (2.5, 1.0, 4.0));
        assert_eq!(s.quantile(0.25), 1.75);
        assert_eq!(spread(&[7.0]).median(), 7.0);
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![1.0, f64::NAN]), None);
    }

    #[test]
    fn the_interval_is_the_sign_tests() {
        // n = 9 without the two extremes: 1 - 2 * (1 + 9) / 512.
        let s = spread(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let (low, high, sure) = s.median_interval();
        assert_eq!((low, high), (2.0, 8.0));
        assert!((sure - (1.0 - 20.0 / 512.0)).abs() < 1e-12, "{sure}");
        // Too few for 95 %: all of them, and said how sure that is.
        let (low, high, sure) = spread(&[1.0, 2.0, 3.0]).median_interval();
        assert_eq!((low, high, sure), (1.0, 3.0, 0.75));
    }
}
