/* One library for one REAL: cc -DREAL=float or -DREAL=double. See build.py for the flags and why they are these. */
#include "attention.h"
#include "linear.h"
#include "philox.h"
#include "pointwise.h"
