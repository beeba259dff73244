//! Winograd's transforms along one axis, as steps over numbered slots: `y = A' [(G g) . (B d)]` (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2016), by the Toom-Cook algorithm (Blahut, "Fast Algorithms for Signal
//! Processing", 2010, 5.2) at the points infinity, 0, p, -p, q, -q, ..., in this order.
//!
//! With `m(x)` the product of `x - point`, row `i` of B is `b[i] * m(x) / (x - point[i])`, row `i` of A is
//! `a[i] * point[i]^k`, and row `i` of G is `point[i]^l / (a[i] * b[i] * m'(point[i]))`; the factors a and b are free and make
//! coefficients 1. Fewer outputs leave out points from the end. G stays the same: only a changes.

/// Magnitudes of the pairs of points, by the number of all points: halves of six bits more accuracy than 1, 2 for six.
fn magnitudes(points: i64) -> &'static [f64] {
    use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};
    match points {
        3 | 4 => &[1.0],
        5 => &[1.0, -0.5],
        6 => &[FRAC_1_SQRT_2, SQRT_2],
        8 => &[1.0, 2.0, 0.5],
        _ => &[],
    }
}

/// One step over slots.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step {
    /// `to = a + b`.
    Add(usize, usize, usize),
    /// `to = a - b`.
    Subtract(usize, usize, usize),
    /// `to = factor * a`.
    Scale(usize, usize, f64),
    /// `to += factor * a`.
    AddScaled(usize, usize, f64),
    /// `to = a`.
    Copy(usize, usize),
}

/// Steps from operands, which stand in the first slots, to results.
#[derive(Clone, PartialEq, Debug)]
pub struct Transform {
    /// Operands.
    pub operands: usize,
    /// Slots that the steps use.
    pub slots: usize,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The slots of the results.
    pub results: Vec<usize>,
}

/// The numbers that steps multiply by, each once; those of sums without their signs.
pub fn factors(transforms: &[Transform]) -> Vec<f64> {
    let mut factors: Vec<f64> = Vec::new();
    for step in transforms.iter().flat_map(|transform| &transform.steps) {
        let factor = match *step {
            Step::Scale(_, _, factor) => factor,
            Step::AddScaled(_, _, factor) => factor.abs(),
            Step::Add(..) | Step::Subtract(..) | Step::Copy(..) => continue,
        };
        if !factors.contains(&factor) {
            factors.push(factor);
        }
    }
    factors
}

/// Taps that are computed at so many points, infinity the first. A tap alone meets each input by itself.
#[derive(Clone, Copy)]
pub(super) struct Polynomial {
    pub points: i64,
    /// Fewer than points, or 1.
    pub taps: i64,
}

impl Polynomial {
    /// Outputs of all points.
    fn outputs(self) -> i64 {
        self.points - self.taps + 1
    }

    /// Inputs of so many outputs, and the points that they take.
    fn reach(self, outputs: i64) -> i64 {
        outputs + self.taps - 1
    }

    /// Inputs to the numbers at the points.
    pub fn input(self, outputs: i64) -> Transform {
        self.input_with_factors(outputs).0
    }

    /// Sums at the points to outputs.
    pub fn output(self, outputs: i64) -> Transform {
        if self.taps == 1 {
            return Writer::new(outputs as usize).finish((0..outputs as usize).collect());
        }
        let a = self.output_factors(outputs);
        let mut writer = Writer::new(a.len());
        let results = writer.outputs(&self.magnitudes(outputs), &a, outputs as usize);
        writer.finish(results)
    }

    /// The rows of G, one for each point.
    pub fn weights(self) -> Vec<Vec<f64>> {
        if self.taps == 1 {
            return vec![vec![1.0]; self.points as usize];
        }
        let finite = finite_points(&self.magnitudes(self.outputs()));
        let infinity = (0..self.taps).map(|tap| f64::from(u8::from(tap == self.taps - 1))).collect();
        let factors = self.weight_factors();
        let row = |(at, factor): (&f64, &f64)| (0..self.taps as i32).map(|tap| factor * at.powi(tap)).collect();
        [infinity].into_iter().chain(finite.iter().zip(&factors[1..]).map(row)).collect()
    }

    fn magnitudes(self, outputs: i64) -> Magnitudes {
        let points = self.reach(outputs) as usize;
        let all = magnitudes(self.points);
        let pairs = points.saturating_sub(2) / 2;
        let single = (points > 2 && points % 2 == 1).then(|| all[pairs]);
        Magnitudes { pairs: all[..pairs].to_vec(), single }
    }

    fn input_with_factors(self, outputs: i64) -> (Transform, Vec<f64>) {
        let mut writer = Writer::new(self.reach(outputs) as usize);
        if self.taps == 1 {
            return (writer.finish((0..outputs as usize).collect()), vec![1.0; outputs as usize]);
        }
        let (results, factors) = writer.inputs(&self.magnitudes(outputs));
        (writer.finish(results), factors)
    }

    /// `1 / (a[i] * b[i] * m'(point[i]))`.
    fn weight_factors(self) -> Vec<f64> {
        let magnitudes = self.magnitudes(self.outputs());
        let b = self.input_with_factors(self.outputs()).1;
        let derivatives = derivatives(&magnitudes);
        let factors = whole_output_factors(&magnitudes);
        (0..b.len()).map(|point| 1.0 / (factors[point] * b[point] * derivatives[point])).collect()
    }

    /// `a` for so many outputs, which goes with the same G.
    fn output_factors(self, outputs: i64) -> Vec<f64> {
        let g = self.weight_factors();
        let b = self.input_with_factors(outputs).1;
        let derivatives = derivatives(&self.magnitudes(outputs));
        (0..b.len()).map(|point| 1.0 / (g[point] * b[point] * derivatives[point])).collect()
    }
}

/// Points beside infinity and 0.
struct Magnitudes {
    /// Each with both signs.
    pairs: Vec<f64>,
    /// With one sign.
    single: Option<f64>,
}

fn finite_points(magnitudes: &Magnitudes) -> Vec<f64> {
    let pairs = magnitudes.pairs.iter().flat_map(|&at| [at, -at]);
    [0.0].into_iter().chain(pairs).chain(magnitudes.single).collect()
}

/// `m'(point)`: the product of the distances to the other points; 1 for infinity.
fn derivatives(magnitudes: &Magnitudes) -> Vec<f64> {
    let points = finite_points(magnitudes);
    let at = |place: usize| {
        let others = points.iter().enumerate().filter(move |&(other, _)| other != place);
        others.map(|(_, &other)| points[place] - other).product::<f64>()
    };
    [1.0].into_iter().chain((0..points.len()).map(at)).collect()
}

/// The factors of A that make the coefficients 1 of the first pair in the second output and of the second pair in the third.
fn whole_output_factors(magnitudes: &Magnitudes) -> Vec<f64> {
    let of_pair = |(place, at): (usize, &f64)| match place {
        0 => [1.0 / at; 2],
        1 => [1.0 / (at * at); 2],
        _ => [1.0; 2],
    };
    let pairs = magnitudes.pairs.iter().enumerate().flat_map(of_pair);
    [1.0, 1.0].into_iter().chain(pairs).chain(magnitudes.single.map(|_| 1.0)).collect()
}

/// The product of `y - at * at`, by rising power, without the pair `but`.
fn product_of_squares(pairs: &[f64], but: Option<usize>) -> Vec<f64> {
    let others = pairs.iter().enumerate().filter(|&(place, _)| Some(place) != but);
    others.fold(vec![1.0], |product, (_, at)| {
        let mut next = vec![0.0; product.len() + 1];
        for (power, coefficient) in product.iter().enumerate() {
            next[power] -= coefficient * at * at;
            next[power + 1] += coefficient;
        }
        next
    })
}

/// A factor that is 1 but for rounding.
fn is_one(factor: f64) -> bool {
    (factor - 1.0).abs() < 1e-12
}

/// A transform as far as it is written.
pub(super) struct Writer {
    operands: usize,
    slots: usize,
    /// Slots that nothing needs any more.
    pub(super) free: Vec<usize>,
    pub(super) steps: Vec<Step>,
}

impl Writer {
    pub(super) fn new(operands: usize) -> Self {
        Writer { operands, slots: operands, free: Vec::new(), steps: Vec::new() }
    }

    pub(super) fn finish(self, results: Vec<usize>) -> Transform {
        Transform { operands: self.operands, slots: self.slots, steps: self.steps, results }
    }

    pub(super) fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    /// `to += sum of terms`.
    fn accumulate(&mut self, to: usize, terms: impl IntoIterator<Item = (usize, f64)>) {
        for (slot, factor) in terms {
            self.steps.push(match factor {
                _ if is_one(factor) => Step::Add(to, to, slot),
                _ if is_one(-factor) => Step::Subtract(to, to, slot),
                _ => Step::AddScaled(to, slot, factor),
            });
        }
    }

    /// A sum of terms in a new slot; no slot of the terms changes.
    fn sum(&mut self, mut terms: Vec<(usize, f64)>) -> usize {
        let to = self.take();
        let first = terms.iter().position(|&(_, factor)| !is_one(factor)).unwrap_or(0);
        let (slot, factor) = terms.remove(first);
        match terms.first() {
            Some(&(other, _)) if is_one(factor) => {
                self.steps.push(Step::Add(to, slot, other));
                terms.remove(0);
            }
            _ => self.steps.push(Step::Scale(to, slot, factor)),
        }
        self.accumulate(to, terms);
        to
    }

    /// A sum of terms in the slot of the first, which dies.
    fn sum_in_place(&mut self, terms: &[(usize, f64)]) -> usize {
        let (to, factor) = terms[0];
        if !is_one(factor) {
            self.steps.push(Step::Scale(to, to, factor));
        }
        self.accumulate(to, terms[1..].iter().copied());
        to
    }

    /// The rows of B over the operands, with their factors b.
    fn inputs(&mut self, magnitudes: &Magnitudes) -> (Vec<usize>, Vec<f64>) {
        let Magnitudes { pairs, single } = magnitudes;
        let mut d: Vec<usize> = (0..self.operands).collect();
        let mut of_single = None;
        if let Some(at) = *single {
            // The row of the single point, then `x - at` in front of all other rows.
            let squares = product_of_squares(pairs, None);
            let odd: Vec<(usize, f64)> = squares.iter().enumerate().map(|(power, &c)| (d[2 * power + 1], c)).collect();
            of_single = Some(if pairs.is_empty() { d[1] } else { self.sum(odd) });
            for place in (2..d.len()).rev() {
                self.accumulate(d[place], [(d[place - 1], -at)]);
            }
            self.sum_in_place(&[(d[0], -at), (d[1], 1.0)]);
            if !pairs.is_empty() {
                self.free.push(d[1]);
            }
            d.remove(1);
        }
        let (mut results, mut factors) = self.symmetric_inputs(pairs, &d);
        if let Some(row) = of_single {
            results.push(row);
            factors.push(1.0);
            // Both signs of a pair get one factor a.
            let derivatives = derivatives(magnitudes);
            for minus in (3..2 + 2 * pairs.len()).step_by(2) {
                let ratio = derivatives[minus - 1] / derivatives[minus];
                self.steps.push(Step::Scale(results[minus], results[minus], ratio));
                factors[minus] *= ratio;
            }
        }
        (results, factors)
    }

    /// The rows of infinity, 0 and pairs over `d`, whose even and odd places meet squares of the points.
    fn symmetric_inputs(&mut self, pairs: &[f64], d: &[usize]) -> (Vec<usize>, Vec<f64>) {
        let even: Vec<usize> = d.iter().copied().step_by(2).collect();
        let odd: Vec<usize> = d.iter().copied().skip(1).step_by(2).collect();
        let last = pairs.len();
        let squares = product_of_squares(pairs, None);
        let terms = |slots: &[usize], of: usize, scale: f64| -> Vec<(usize, f64)> {
            let coefficients = product_of_squares(pairs, Some(of));
            slots.iter().zip(coefficients).map(|(&slot, c)| (slot, c * scale)).rev().collect()
        };
        // E and O of each pair, where its rows are E + O and E - O, and the factor b. In place: E of the first pair, O of the
        // second, each the last to read what it overwrites.
        let mut parts: Vec<(usize, usize, f64)> = vec![(0, 0, 1.0); last];
        for place in (1..last).rev() {
            let scale = 1.0 / pairs[place];
            parts[place].2 = scale;
            parts[place].0 = self.sum(terms(&even[1..], place, scale));
        }
        let zero =
            self.sum_in_place(&even.iter().zip(&squares).map(|(&slot, c)| (slot, c / squares[0])).collect::<Vec<_>>());
        if let Some(first) = parts.first_mut() {
            first.0 = self.sum_in_place(&terms(&even[1..], 0, 1.0));
            self.free.extend(&even[1..last]);
        }
        let infinity =
            self.sum_in_place(&odd.iter().zip(&squares).map(|(&slot, &c)| (slot, c)).rev().collect::<Vec<_>>());
        for place in (0..last).filter(|&place| place != 1) {
            let scale = parts[place].2 * pairs[place];
            let terms = terms(&odd[..last], place, scale);
            parts[place].1 = if last == 1 { self.sum_in_place(&terms) } else { self.sum(terms) };
        }
        if last > 1 {
            parts[1].1 = self.sum_in_place(&terms(&odd[..last], 1, 1.0));
            self.free.extend(&odd[..last - 1]);
        }
        let (mut results, mut factors) = (vec![infinity, zero], vec![1.0, 1.0 / squares[0]]);
        for (e, o, factor) in parts {
            let plus = self.take();
            self.steps.extend([Step::Add(plus, e, o), Step::Subtract(e, e, o)]);
            self.free.push(o);
            results.extend([plus, e]);
            factors.extend([factor; 2]);
        }
        (results, factors)
    }

    /// The outputs over the sums at the points.
    fn outputs(&mut self, magnitudes: &Magnitudes, a: &[f64], outputs: usize) -> Vec<usize> {
        let mut parts: Vec<(usize, usize, f64, f64)> = Vec::new();
        for (place, &at) in magnitudes.pairs.iter().enumerate() {
            let (plus, minus) = (2 + 2 * place, 3 + 2 * place);
            let sum = self.take();
            self.steps.extend([Step::Add(sum, plus, minus), Step::Subtract(plus, plus, minus)]);
            self.free.push(minus);
            parts.push((sum, plus, a[plus], at));
        }
        let single = magnitudes.single.map(|at| (self.operands - 1, a[self.operands - 1], at));
        let terms = |output: usize| -> Vec<(usize, f64)> {
            let of_pair = |&(sum, difference, factor, at): &(usize, usize, f64, f64)| {
                (if output.is_multiple_of(2) { sum } else { difference }, factor * at.powi(output as i32))
            };
            let of_single = single.map(|(slot, factor, at)| (slot, factor * at.powi(output as i32)));
            parts.iter().map(of_pair).chain(of_single).collect()
        };
        let last = outputs - 1;
        let mut results = vec![0; outputs];
        let mut first = vec![(1, a[1])];
        first.extend(terms(0));
        first.extend((last == 0).then_some((0, 1.0)));
        results[0] = self.sum_in_place(&first);
        if last > 0 {
            let mut terms = terms(last);
            terms.insert(0, (0, 1.0));
            results[last] = self.sum_in_place(&terms);
        }
        for output in (1..last).rev() {
            let mut terms = terms(output);
            // Nothing else of this parity follows: a part with the coefficient 1 may die.
            let dying = if output <= 2 { terms[..parts.len()].iter().position(|&(_, c)| is_one(c)) } else { None };
            results[output] = match dying {
                Some(place) => {
                    terms.swap(0, place);
                    self.sum_in_place(&terms)
                }
                None => self.sum(terms),
            };
        }
        results
    }
}
