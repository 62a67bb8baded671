//! Lines of the answer: `bench NAME VALUE UNIT`, and where there are two sides QEMU's value and the ratio of ours to it.

/// Reports our own figure.
pub fn report(name: &str, unit: &str, value: f64) {
    println!("bench {name} {value:.*} {unit}", digits(value));
}

/// Reports figures of two sides, measured in alternation: the medians, and the median of the ratios of each pair.
pub fn report_pair(name: &str, unit: &str, ours: &[f64], theirs: &[f64]) {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (ours, theirs) = (median(ours.to_vec()), median(theirs.to_vec()));
    let (digits, ratio) = (digits(ours), median(ratios));
    println!("bench {name} {ours:.digits$} {unit} {theirs:.digits$} {ratio:.2}");
}

/// The middle one of measured values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of so many measurements.
pub fn median_of(runs: usize, measure: impl FnMut() -> f64) -> f64 {
    median(std::iter::repeat_with(measure).take(runs).collect())
}

/// Digits after the point, for about three that mean something.
const fn digits(value: f64) -> usize {
    match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    }
}
