/* Two sums of the kernel regression: over angles (`angles.py`), and over third atoms (`descriptors.moments`).

   The sum over angles is made for a few sparse points at once, in the registers of the processor. For each pair of an edge and a
   sparse point it goes from the overlaps of their descriptors to Fourier coefficients of k(a), to its power at angles a and -a
   together, to projections of it on cos Ma and sin Ma, and to K_M times the envelope of the lengths. The same code in numpy
   (`angles.kernels_numpy`) writes each of these steps to memory and reads it again. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#define ORDERS 4
#define MAX_ORDERS 12 /* largest number of orders M */
#define LANES 8
typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef double unaligned __attribute__((vector_size(8 * LANES), aligned(8)));

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_PROCESSORS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_PROCESSORS
#endif
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

typedef struct {
  Py_ssize_t edges, points, angles;
  int cosines, sines, squarings;
  const double *scalar[2], *so2[2]; /* overlaps of the even and the odd parts under reversal */
  const double *envelope, *to_angles, *to_orders;
  double *kernels_scalar[2], *kernels_so2[2]; /* K of the edges and of the reversed edges */
} Work;

#define AT(pointer) (*(unaligned *)(pointer))
#define FROM(pointer) (*(const unaligned *)(pointer))

/* Projections of k(a)^exponent on orders, from the Fourier coefficients c of k(a). */
INLINE void project(const lanes *c, const Work *w, int cosines, int sines, lanes *out) {
  UNROLL for (int m = 0; m < cosines + sines; m++) out[m] = (lanes){0};
  for (Py_ssize_t j = 0; j < w->angles; j++) {
    const double *to_angles = w->to_angles + j * 2 * ORDERS, *to_orders = w->to_orders + j * (cosines + sines);
    lanes even = c[0], odd = {0};
    UNROLL for (int m = 0; m < ORDERS; m++) {
      even += to_angles[m] * c[1 + m];
      odd += to_angles[ORDERS + m] * c[1 + ORDERS + m];
    }
    lanes p = even + odd, q = even - odd;
    for (int k = 0; k < w->squarings; k++) {
      p *= p;
      q *= q;
    }
    lanes sum = p + q, difference = p - q;
    UNROLL for (int m = 0; m < cosines; m++) out[m] += to_orders[m] * sum;
    UNROLL for (int m = 0; m < sines; m++) out[cosines + m] += to_orders[cosines + m] * difference;
  }
}

INLINE void coefficients(const Work *w, int half, Py_ssize_t edge, Py_ssize_t r, lanes direct[9], lanes mirrored[9]) {
  Py_ssize_t n = w->points;
  direct[0] = mirrored[0] = FROM(w->scalar[half] + edge * n + r);
  UNROLL for (int m = 0; m < ORDERS; m++) {
    const double *re = w->so2[half] + ((m * 2 * w->edges + edge) * 2) * n + r, *im = re + 2 * w->edges * n;
    lanes rr = FROM(re), ri = FROM(re + n), ir = FROM(im), ii = FROM(im + n);
    direct[1 + m] = rr + ii;
    mirrored[1 + m] = rr - ii;
    direct[1 + ORDERS + m] = ri - ir;
    mirrored[1 + ORDERS + m] = ri + ir;
  }
}

INLINE void store(const Work *w, int side, int cosines, int sines, Py_ssize_t edge, Py_ssize_t r, const lanes *by,
                  const lanes *direct, const lanes *mirrored) {
  lanes envelope = *by;
  Py_ssize_t n = w->points;
  if (cosines > sines) {
    AT(w->kernels_scalar[side] + edge * n + r) = envelope * (direct[0] + mirrored[0]);
    AT(w->kernels_scalar[side] + (w->edges + edge) * n + r) = envelope * (direct[0] - mirrored[0]);
  }
  const lanes *cos = direct + cosines - sines, *cos_mirrored = mirrored + cosines - sines;
  const lanes *sin = direct + cosines, *sin_mirrored = mirrored + cosines;
  UNROLL for (int m = 0; m < sines; m++) {
    double *even = w->kernels_so2[side] + ((m * 2 * w->edges + edge) * 2) * n + r, *odd = even + 2 * w->edges * n;
    AT(even) = envelope * (cos[m] + cos_mirrored[m]);
    AT(even + n) = envelope * (sin[m] + sin_mirrored[m]);
    AT(odd) = envelope * (sin_mirrored[m] - sin[m]);
    AT(odd + n) = envelope * (cos[m] - cos_mirrored[m]);
  }
}

INLINE void pair_lanes(const Work *w, int cosines, int sines, Py_ssize_t edge, Py_ssize_t r) {
  lanes c[4][1 + 2 * ORDERS], projected[4][2 * MAX_ORDERS], envelope = FROM(w->envelope + edge * w->points + r);
  int both = w->scalar[1] != NULL;
  coefficients(w, 0, edge, r, c[0], c[1]);
  if (both) {
    lanes other[2][1 + 2 * ORDERS];
    coefficients(w, 1, edge, r, other[0], other[1]);
    for (int k = 0; k < 2; k++)
      UNROLL for (int m = 0; m < 1 + 2 * ORDERS; m++) {
        c[2 + k][m] = c[k][m] - other[k][m];
        c[k][m] += other[k][m];
      }
  }
  for (int k = 0; k < (both ? 4 : 2); k++) project(c[k], w, cosines, sines, projected[k]);
  store(w, 0, cosines, sines, edge, r, &envelope, projected[0], projected[1]);
  if (both) store(w, 1, cosines, sines, edge, r, &envelope, projected[3], projected[2]);
}

INLINE void all(const Work *w, int cosines, int sines) {
  for (Py_ssize_t edge = 0; edge < w->edges; edge++) {
    for (Py_ssize_t r = 0; r + LANES <= w->points; r += LANES) pair_lanes(w, cosines, sines, edge, r);
    /* the last points; some are computed twice */
    if (w->points % LANES) pair_lanes(w, cosines, sines, edge, w->points - LANES);
  }
}

/* Loops over orders are unrolled for all orders up to 2, 3 or 4, so that sums stay in registers. */
FOR_PROCESSORS static void run(const Work *w) {
  if (w->cosines == 5 && w->sines == 4)
    all(w, 5, 4);
  else if (w->cosines == 4 && w->sines == 3)
    all(w, 4, 3);
  else if (w->cosines == 3 && w->sines == 2)
    all(w, 3, 2);
  else
    all(w, w->cosines, w->sines);
}

typedef struct {
  Py_ssize_t edges, triangles, phases, n_p, b, c, stride;
  const Py_ssize_t *start;
  const double *phase, *factor_p, *factor_b, *factor_c;
  double *out;
} Moments;

#define MAX_SUMS 1024 /* largest number of lanes in the sums of one edge */
#define TRIANGLES 4 /* triangles that are added together, so that sums are read and written once for all of them */

/* Add the terms of some triangles to some rows of sums. */
INLINE void add_rows(lanes *sums, const lanes *products, Py_ssize_t n, int rows, const double (*factor)[TRIANGLES]) {
  for (Py_ssize_t v = 0; v < n; v++)
    UNROLL for (int row = 0; row < rows; row++) {
      lanes total = sums[row * n + v];
      UNROLL for (int k = 0; k < TRIANGLES; k++) total += factor[row][k] * products[k * n + v];
      sums[row * n + v] = total;
    }
}

/* Sums over the third atoms of each edge of phase x P x B x C, see `descriptors.Functions`. */
FOR_PROCESSORS static void sum(const Moments *w) {
  Py_ssize_t width = w->b * w->c, n = (width + LANES - 1) / LANES, rows = w->phases * w->n_p;
  lanes sums[MAX_SUMS], products[MAX_SUMS];
  for (Py_ssize_t v = 0; v < TRIANGLES * n; v++) products[v] = (lanes){0};
  for (Py_ssize_t edge = 0; edge < w->edges; edge++) {
    for (Py_ssize_t v = 0; v < rows * n; v++) sums[v] = (lanes){0};
    for (Py_ssize_t first = w->start[edge]; first < w->start[edge + 1]; first += TRIANGLES) {
      Py_ssize_t present = w->start[edge + 1] - first;
      if (present > TRIANGLES) present = TRIANGLES;
      for (int k = 0; k < TRIANGLES; k++) {
        double *product = (double *)(products + k * n);
        const double *b = w->factor_b + (first + k) * w->b, *c = w->factor_c + (first + k) * w->c;
        if (k >= present) memset(product, 0, n * sizeof(lanes));
        else
          for (Py_ssize_t i = 0; i < w->b; i++)
            for (Py_ssize_t j = 0; j < w->c; j++) product[i * w->c + j] = b[i] * c[j];
      }
      for (Py_ssize_t row = 0; row < rows; row += 2) {
        double factor[2][TRIANGLES] = {{0}};
        for (Py_ssize_t r = row; r < row + 2 && r < rows; r++)
          for (Py_ssize_t k = 0; k < present; k++)
            factor[r - row][k] =
                w->phase[r / w->n_p * w->triangles + first + k] * w->factor_p[r % w->n_p * w->triangles + first + k];
        if (row + 1 < rows) add_rows(sums + row * n, products, n, 2, factor);
        else add_rows(sums + row * n, products, n, 1, factor);
      }
    }
    for (Py_ssize_t row = 0; row < rows; row++) {
      double *out = w->out + ((row / w->n_p * w->edges + edge) * w->stride * w->n_p + row % w->n_p) * width;
      memcpy(out, sums + row * n, width * sizeof(double));
    }
  }
}

static int take(PyObject *object, Py_buffer *view, int writable, Py_ssize_t numbers) {
  if (PyObject_GetBuffer(object, view, writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) < 0) return 0;
  if (view->itemsize == 8 && view->len == 8 * numbers) return 1;
  PyErr_Format(PyExc_ValueError, "expected %zd contiguous numbers of 8 bytes, got %zd of %zd bytes", numbers,
               view->itemsize ? view->len / view->itemsize : 0, view->itemsize);
  PyBuffer_Release(view);
  return 0;
}

/* See `_kernels.pyi`. With one side the second pair of inputs and of outputs is ignored. */
static PyObject *kernels(PyObject *self, PyObject *args) {
  Work w = {0};
  PyObject *to_angles, *to_orders, *envelope, *in[4] = {NULL}, *out[4] = {NULL};
  int sides;
  if (!PyArg_ParseTuple(args, "nnniiiOOOi(OO)(OO)(OO)(OO)", &w.edges, &w.points, &w.angles, &w.cosines, &w.sines,
                        &w.squarings, &to_angles, &to_orders, &envelope, &sides, &in[0], &in[1], &in[2], &in[3],
                        &out[0], &out[1], &out[2], &out[3]))
    return NULL;
  if (w.edges < 0 || w.points < LANES || w.angles < 0 || w.cosines < w.sines || w.cosines > w.sines + 1 || w.sines < 0 ||
      w.sines >= MAX_ORDERS || sides < 1 || sides > 2) {
    PyErr_Format(PyExc_ValueError, "expected %d sparse points or more, and fewer than %d orders, got %zd and %d", LANES,
                 MAX_ORDERS, w.points, w.cosines);
    return NULL;
  }
  Py_buffer views[11];
  int n = 0, fine = 1;
  Py_ssize_t pairs = w.edges * w.points;
  fine = take(to_angles, &views[n], 0, w.angles * 2 * ORDERS) && ++n;
  fine = fine && take(to_orders, &views[n], 0, w.angles * (w.cosines + w.sines)) && ++n;
  fine = fine && take(envelope, &views[n], 0, pairs) && ++n;
  for (int k = 0; fine && k < 2 * sides; k++) fine = take(in[k], &views[n], 0, k % 2 ? 4 * ORDERS * pairs : pairs) && ++n;
  for (int k = 0; fine && k < 2 * sides; k++) fine = take(out[k], &views[n], 1, k % 2 ? 4 * w.sines * pairs : 2 * pairs) && ++n;
  if (fine) {
    w.to_angles = views[0].buf, w.to_orders = views[1].buf, w.envelope = views[2].buf;
    for (int k = 0; k < sides; k++) {
      w.scalar[k] = views[3 + 2 * k].buf, w.so2[k] = views[4 + 2 * k].buf;
      w.kernels_scalar[k] = views[3 + 2 * sides + 2 * k].buf, w.kernels_so2[k] = views[4 + 2 * sides + 2 * k].buf;
    }
    Py_BEGIN_ALLOW_THREADS;
    run(&w);
    Py_END_ALLOW_THREADS;
  }
  while (n--) PyBuffer_Release(&views[n]);
  if (!fine) return NULL;
  Py_RETURN_NONE;
}

static PyObject *moments(PyObject *self, PyObject *args) {
  Moments w = {0};
  PyObject *arrays[6];
  Py_ssize_t species, third;
  if (!PyArg_ParseTuple(args, "nnnnnnnnOOOOOO", &w.edges, &w.triangles, &w.phases, &w.n_p, &w.b, &w.c, &species, &third,
                        &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4], &arrays[5]))
    return NULL;
  Py_ssize_t width = w.b * w.c, rows = w.phases * w.n_p;
  Py_ssize_t lanes_of_edge = (rows > TRIANGLES ? rows : TRIANGLES) * ((width + LANES - 1) / LANES);
  if (w.edges < 0 || w.triangles < 0 || w.phases < 1 || w.n_p < 1 || w.b < 1 || w.c < 1 || lanes_of_edge > MAX_SUMS ||
      third < 0 || third >= species) {
    PyErr_Format(PyExc_ValueError, "expected sums of at most %d numbers for an edge, got %zd", MAX_SUMS * LANES,
                 lanes_of_edge * LANES);
    return NULL;
  }
  Py_ssize_t sizes[6] = {w.edges + 1, w.phases * w.triangles, w.n_p * w.triangles, w.b * w.triangles, w.c * w.triangles,
                         w.phases * w.edges * species * w.n_p * width};
  Py_buffer views[6];
  int n = 0, fine = 1;
  for (int k = 0; fine && k < 6; k++) fine = take(arrays[k], &views[n], k == 5, sizes[k]) && ++n;
  if (fine) {
    w.start = views[0].buf, w.phase = views[1].buf;
    w.factor_p = views[2].buf, w.factor_b = views[3].buf, w.factor_c = views[4].buf;
    for (Py_ssize_t k = 0; fine && k < w.edges; k++) fine = w.start[k] <= w.start[k + 1];
    if (!fine || w.start[0] < 0 || w.start[w.edges] > w.triangles) {
      fine = 0;
      PyErr_SetString(PyExc_ValueError, "expected where the triangles of each edge start, in ascending order");
    }
  }
  if (fine) {
    w.stride = species, w.out = (double *)views[5].buf + third * w.n_p * width;
    Py_BEGIN_ALLOW_THREADS;
    sum(&w);
    Py_END_ALLOW_THREADS;
  }
  while (n--) PyBuffer_Release(&views[n]);
  if (!fine) return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"moments", moments, METH_VARARGS, "See `harmose.kernel_regression.descriptors`."},
                                {"kernels", kernels, METH_VARARGS, "See `harmose.kernel_regression.angles`."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&module); }
