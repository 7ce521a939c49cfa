//! Reads the Prometheus text format.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Parses a scrape; comments are dropped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum of all series of this name whose labels contain every given text, such as `outcome="issued"`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let matches = |series: &str| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            found == name && labels.iter().all(|label| rest.contains(label))
        };
        self.0.iter().filter(|(series, _)| matches(series)).map(|(_, value)| value).sum()
    }

    /// Whether any series has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|series| series.split('{').next() == Some(name))
    }

    /// The names of all series.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().filter_map(|series| series.split('{').next()).collect();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let metrics = Metrics::parse("# HELP a x\na{r=\"ok\",k=\"1\"} 2\na{r=\"ok\",k=\"2\"} 3\na{r=\"no\"} 7\nab 9\n");
        assert!((metrics.sum("a", &["r=\"ok\""]) - 5.0).abs() < 1e-9);
        assert!((metrics.sum("a", &[]) - 12.0).abs() < 1e-9);
        assert!((metrics.sum("ab", &[]) - 9.0).abs() < 1e-9);
        assert!(metrics.has("ab") && !metrics.has("abc"));
    }
}
