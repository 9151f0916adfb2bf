//! The numbers behind figures 2, 3, 5 and 7 of Baptista et al., "Memorization and regularization in generative diffusion
//! models" (reg). The example `reproduce` draws the same experiments with more samples.

#[path = "../examples/reproduce/experiments.rs"]
mod experiments;

use experiments::*;

const SAMPLES: usize = 2000;

fn study() -> Study {
    Study::new(&DATA).expect("20 points are a training set")
}

/// The fractions for each c, and the reference, within 4 standard errors of the difference: chance alone passes this
/// bound for one fraction in 16000.
fn fractions(sweep: &Sweep) -> Vec<(f64, f64)> {
    let study = study();
    let fraction = |(c, reference)| {
        let regularizer = (sweep.regularizer)(c);
        let samples = study.samples(regularizer, study.adaptive(regularizer).unwrap(), SAMPLES).unwrap();
        let fraction = study.memorization(&samples).unwrap().fraction_copied;
        let bound = 4.0 * standard_error(reference, SAMPLES);
        assert!(deviation(reference, fraction) <= bound, "c = {c:e}: {fraction}, not {reference} ± {bound}");
        (c, fraction)
    };
    sweep.points().map(fraction).collect()
}

#[test]
fn tikhonov_memorizes_the_fractions_of_figure_5() {
    // The formula is a limit: on 120000 samples it is off by up to 0.004.
    for (c, fraction) in fractions(&TIKHONOV) {
        let limit = tikhonov_limit(c);
        let bound = 0.004 + 4.0 * (limit * (1.0 - limit) / SAMPLES as f64).sqrt();
        assert!((fraction - limit).abs() <= bound, "c = {c:e}: {fraction}, not {limit} ± {bound}");
    }
}

#[test]
fn empirical_bayes_memorizes_the_fractions_of_figure_7() {
    fractions(&EMPIRICAL_BAYES);
}

/// Another solver on another grid, from the same initial states, disagrees about fewer samples than a quarter of the
/// standard error of the fraction, at the c where the fraction falls most.
#[test]
fn fractions_do_not_depend_on_the_solver() {
    const FEW: usize = 500;
    let study = study();
    for (sweep, place) in [(TIKHONOV, 2), (EMPIRICAL_BAYES, 3)] {
        let (c, p) = sweep.points().nth(place).unwrap();
        let regularizer = (sweep.regularizer)(c);
        let adaptive = study.samples(regularizer, study.adaptive(regularizer).unwrap(), FEW).unwrap();
        let uniform = study.samples(regularizer, study.uniform_in_s(regularizer, 400).unwrap(), FEW).unwrap();
        let moved = study.moved_across(&adaptive, &uniform).unwrap();
        assert!(moved <= 0.25 * (p * (1.0 - p) / FEW as f64).sqrt(), "c = {c:e}: {moved} of the samples");
    }
}

#[test]
fn distances_to_the_limit_fall_like_sigma() {
    let study = study();
    let paths = study.paths(Starts::Prior(30), 1000).unwrap();
    let collapse = Collapse::new(&study, &DATA, &paths).unwrap();
    for (slope, distance) in collapse.slope.iter().zip(&collapse.distance) {
        assert!((slope + 1.0).abs() <= collapse.slope_error(), "{slope}");
        // Of the size of σ: paths start and stay within a few standard deviations.
        assert!(distance[distance.len() - 1] < 5.0 * study.sigma(paths.t[1000]).unwrap());
    }
}

#[test]
fn paths_from_a_hyperplane_between_points_stay_on_it() {
    // The two points are mirror images in every rounding, so that nothing is left of their difference. Of four points
    // the sums are rounded in an order that need not be symmetric.
    for (data, off, starts, bound) in [(&PAIR[..], off_axis as fn(_) -> _, 2, 0.0), (&SQUARE, off_diagonals, 4, 1e-15)]
    {
        let study = Study::new(data).unwrap();
        let square = square(study.sigma(1.0).unwrap(), 8);
        let paths = study.paths(Starts::At(&square), 400).unwrap();
        let (count, largest) = stay(&paths, off);
        assert_eq!(count, starts);
        assert!(largest <= bound, "N = {}: {largest}", data.len());
    }
}
