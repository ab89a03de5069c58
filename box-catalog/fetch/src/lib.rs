//! Downloads: several ranges at once, resumed, verified while they stream.
