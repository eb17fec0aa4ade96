/* Two sums of the closed form: over angles (`angles`), and over third atoms (`triangles.moments`).

   Those over angles, for a few references at once in the processor's registers.

   For each pair of an edge and a reference: from the overlaps of their doublets to Fourier coefficients of k(a), to its power at
   angles a and -a together, to projections of it on cos Ma and sin Ma, to `K_M` times what their lengths make of it. The same in
   numpy (`angles._with_numpy`) writes each of these steps to memory and reads it again. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#define ORDERS 4
#define MOST 12 /* orders M, at most */
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
  Py_ssize_t edges, references, angles;
  int cosines, sines, squarings;
  const double *scalar[2], *around[2]; /* overlaps, of what is even and what is odd under the exchange of ends */
  const double *alike, *there, *back;
  double *scalars[2], *arounds[2]; /* K of each side */
} Work;

#define AT(pointer) (*(unaligned *)(pointer))
#define FROM(pointer) (*(const unaligned *)(pointer))

/* Coefficients c of k(a) -> sums over angles of k(a)^power with `back`. */
INLINE void project(const lanes *c, const Work *w, int cosines, int sines, lanes *out) {
  UNROLL for (int m = 0; m < cosines + sines; m++) out[m] = (lanes){0};
  for (Py_ssize_t j = 0; j < w->angles; j++) {
    const double *there = w->there + j * 2 * ORDERS, *back = w->back + j * (cosines + sines);
    lanes even = c[0], odd = {0};
    UNROLL for (int m = 0; m < ORDERS; m++) {
      even += there[m] * c[1 + m];
      odd += there[ORDERS + m] * c[1 + ORDERS + m];
    }
    lanes p = even + odd, q = even - odd;
    for (int k = 0; k < w->squarings; k++) {
      p *= p;
      q *= q;
    }
    lanes sum = p + q, difference = p - q;
    UNROLL for (int m = 0; m < cosines; m++) out[m] += back[m] * sum;
    UNROLL for (int m = 0; m < sines; m++) out[cosines + m] += back[cosines + m] * difference;
  }
}

INLINE void coefficients(const Work *w, int half, Py_ssize_t edge, Py_ssize_t r, lanes straight[9], lanes mirrored[9]) {
  Py_ssize_t n = w->references;
  straight[0] = mirrored[0] = FROM(w->scalar[half] + edge * n + r);
  UNROLL for (int m = 0; m < ORDERS; m++) {
    const double *re = w->around[half] + ((m * 2 * w->edges + edge) * 2) * n + r, *im = re + 2 * w->edges * n;
    lanes rr = FROM(re), ri = FROM(re + n), ir = FROM(im), ii = FROM(im + n);
    straight[1 + m] = rr + ii;
    mirrored[1 + m] = rr - ii;
    straight[1 + ORDERS + m] = ri - ir;
    mirrored[1 + ORDERS + m] = ri + ir;
  }
}

INLINE void store(const Work *w, int side, int cosines, int sines, Py_ssize_t edge, Py_ssize_t r, const lanes *by,
                  const lanes *straight, const lanes *mirrored) {
  lanes alike = *by;
  Py_ssize_t n = w->references;
  if (cosines > sines) {
    AT(w->scalars[side] + edge * n + r) = alike * (straight[0] + mirrored[0]);
    AT(w->scalars[side] + (w->edges + edge) * n + r) = alike * (straight[0] - mirrored[0]);
  }
  const lanes *cos = straight + cosines - sines, *cos_mirrored = mirrored + cosines - sines;
  const lanes *sin = straight + cosines, *sin_mirrored = mirrored + cosines;
  UNROLL for (int m = 0; m < sines; m++) {
    double *even = w->arounds[side] + ((m * 2 * w->edges + edge) * 2) * n + r, *odd = even + 2 * w->edges * n;
    AT(even) = alike * (cos[m] + cos_mirrored[m]);
    AT(even + n) = alike * (sin[m] + sin_mirrored[m]);
    AT(odd) = alike * (sin_mirrored[m] - sin[m]);
    AT(odd + n) = alike * (cos[m] - cos_mirrored[m]);
  }
}

INLINE void lanes_of(const Work *w, int cosines, int sines, Py_ssize_t edge, Py_ssize_t r) {
  lanes c[4][1 + 2 * ORDERS], found[4][2 * MOST], alike = FROM(w->alike + edge * w->references + r);
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
  for (int k = 0; k < (both ? 4 : 2); k++) project(c[k], w, cosines, sines, found[k]);
  store(w, 0, cosines, sines, edge, r, &alike, found[0], found[1]);
  if (both) store(w, 1, cosines, sines, edge, r, &alike, found[3], found[2]);
}

INLINE void all(const Work *w, int cosines, int sines) {
  for (Py_ssize_t edge = 0; edge < w->edges; edge++) {
    for (Py_ssize_t r = 0; r + LANES <= w->references; r += LANES) lanes_of(w, cosines, sines, edge, r);
    /* the last ones, some of them once more */
    if (w->references % LANES) lanes_of(w, cosines, sines, edge, w->references - LANES);
  }
}

/* Loops over orders are unrolled where these are all up to 2, 3 or 4, so that what they sum stays in registers. */
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
  Py_ssize_t edges, triangles, turns, along, b, c, stride;
  const Py_ssize_t *start;
  const double *turn, *height, *from, *to;
  double *out;
} Moments;

#define ROOM 1024 /* lanes of sums of one edge, at most */
#define TOGETHER 4 /* triangles, so that sums are read and written once for all of them */

/* To some rows of sums what these triangles add. */
INLINE void add_rows(lanes *sums, const lanes *products, Py_ssize_t n, int rows, const double (*factor)[TOGETHER]) {
  for (Py_ssize_t v = 0; v < n; v++)
    UNROLL for (int row = 0; row < rows; row++) {
      lanes mine = sums[row * n + v];
      UNROLL for (int k = 0; k < TOGETHER; k++) mine += factor[row][k] * products[k * n + v];
      sums[row * n + v] = mine;
    }
}

/* Sums over the third atoms of each edge of turn x height x (products of one of `from` with one of `to`). */
FOR_PROCESSORS static void sum(const Moments *w) {
  Py_ssize_t width = w->b * w->c, n = (width + LANES - 1) / LANES, rows = w->turns * w->along;
  lanes sums[ROOM], products[ROOM];
  for (Py_ssize_t v = 0; v < TOGETHER * n; v++) products[v] = (lanes){0};
  for (Py_ssize_t edge = 0; edge < w->edges; edge++) {
    for (Py_ssize_t v = 0; v < rows * n; v++) sums[v] = (lanes){0};
    for (Py_ssize_t first = w->start[edge]; first < w->start[edge + 1]; first += TOGETHER) {
      Py_ssize_t present = w->start[edge + 1] - first;
      if (present > TOGETHER) present = TOGETHER;
      for (int k = 0; k < TOGETHER; k++) {
        double *mine = (double *)(products + k * n);
        const double *from = w->from + (first + k) * w->b, *to = w->to + (first + k) * w->c;
        if (k >= present) memset(mine, 0, n * sizeof(lanes));
        else
          for (Py_ssize_t i = 0; i < w->b; i++)
            for (Py_ssize_t j = 0; j < w->c; j++) mine[i * w->c + j] = from[i] * to[j];
      }
      for (Py_ssize_t row = 0; row < rows; row += 2) {
        double factor[2][TOGETHER] = {{0}};
        for (Py_ssize_t r = row; r < row + 2 && r < rows; r++)
          for (Py_ssize_t k = 0; k < present; k++)
            factor[r - row][k] = w->turn[r / w->along * w->triangles + first + k] * w->height[r % w->along * w->triangles + first + k];
        if (row + 1 < rows) add_rows(sums + row * n, products, n, 2, factor);
        else add_rows(sums + row * n, products, n, 1, factor);
      }
    }
    for (Py_ssize_t row = 0; row < rows; row++) {
      double *out = w->out + ((row / w->along * w->edges + edge) * w->stride * w->along + row % w->along) * width;
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

/* See `_kernels.pyi`; of one side the second pair of inputs and of outputs is not looked at. */
static PyObject *kernels(PyObject *self, PyObject *args) {
  Work w = {0};
  PyObject *there, *back, *alike, *in[4] = {NULL}, *out[4] = {NULL};
  int sides;
  if (!PyArg_ParseTuple(args, "nnniiiOOOi(OO)(OO)(OO)(OO)", &w.edges, &w.references, &w.angles, &w.cosines, &w.sines,
                        &w.squarings, &there, &back, &alike, &sides, &in[0], &in[1], &in[2], &in[3], &out[0], &out[1],
                        &out[2], &out[3]))
    return NULL;
  if (w.edges < 0 || w.references < LANES || w.angles < 0 || w.cosines < w.sines || w.cosines > w.sines + 1 || w.sines < 0 ||
      w.sines >= MOST || sides < 1 || sides > 2) {
    PyErr_Format(PyExc_ValueError, "expected %d references or more, and fewer than %d orders, got %zd and %d", LANES, MOST,
                 w.references, w.cosines);
    return NULL;
  }
  Py_buffer views[11];
  int n = 0, fine = 1;
  Py_ssize_t pairs = w.edges * w.references;
  fine = take(there, &views[n], 0, w.angles * 2 * ORDERS) && ++n;
  fine = fine && take(back, &views[n], 0, w.angles * (w.cosines + w.sines)) && ++n;
  fine = fine && take(alike, &views[n], 0, pairs) && ++n;
  for (int k = 0; fine && k < 2 * sides; k++) fine = take(in[k], &views[n], 0, k % 2 ? 4 * ORDERS * pairs : pairs) && ++n;
  for (int k = 0; fine && k < 2 * sides; k++) fine = take(out[k], &views[n], 1, k % 2 ? 4 * w.sines * pairs : 2 * pairs) && ++n;
  if (fine) {
    w.there = views[0].buf, w.back = views[1].buf, w.alike = views[2].buf;
    for (int k = 0; k < sides; k++) {
      w.scalar[k] = views[3 + 2 * k].buf, w.around[k] = views[4 + 2 * k].buf;
      w.scalars[k] = views[3 + 2 * sides + 2 * k].buf, w.arounds[k] = views[4 + 2 * sides + 2 * k].buf;
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
  PyObject *given[6];
  Py_ssize_t species, third;
  if (!PyArg_ParseTuple(args, "nnnnnnnnOOOOOO", &w.edges, &w.triangles, &w.turns, &w.along, &w.b, &w.c, &species, &third,
                        &given[0], &given[1], &given[2], &given[3], &given[4], &given[5]))
    return NULL;
  Py_ssize_t width = w.b * w.c, rows = w.turns * w.along;
  Py_ssize_t lanes_of_edge = (rows > TOGETHER ? rows : TOGETHER) * ((width + LANES - 1) / LANES);
  if (w.edges < 0 || w.triangles < 0 || w.turns < 1 || w.along < 1 || w.b < 1 || w.c < 1 || lanes_of_edge > ROOM ||
      third < 0 || third >= species) {
    PyErr_Format(PyExc_ValueError, "expected sums of at most %d numbers for an edge, got %zd", ROOM * LANES, lanes_of_edge * LANES);
    return NULL;
  }
  Py_ssize_t sizes[6] = {w.edges + 1, w.turns * w.triangles, w.along * w.triangles, w.b * w.triangles, w.c * w.triangles,
                         w.turns * w.edges * species * w.along * width};
  Py_buffer views[6];
  int n = 0, fine = 1;
  for (int k = 0; fine && k < 6; k++) fine = take(given[k], &views[n], k == 5, sizes[k]) && ++n;
  if (fine) {
    w.start = views[0].buf, w.turn = views[1].buf, w.height = views[2].buf, w.from = views[3].buf, w.to = views[4].buf;
    for (Py_ssize_t k = 0; fine && k < w.edges; k++) fine = w.start[k] <= w.start[k + 1];
    if (!fine || w.start[0] < 0 || w.start[w.edges] > w.triangles) {
      fine = 0;
      PyErr_SetString(PyExc_ValueError, "expected where the triangles of each edge start, in ascending order");
    }
  }
  if (fine) {
    w.stride = species, w.out = (double *)views[5].buf + third * w.along * width;
    Py_BEGIN_ALLOW_THREADS;
    sum(&w);
    Py_END_ALLOW_THREADS;
  }
  while (n--) PyBuffer_Release(&views[n]);
  if (!fine) return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"moments", moments, METH_VARARGS, "See `harmose.closed_form.triangles`."},
                                {"kernels", kernels, METH_VARARGS, "See `harmose.closed_form.angles`."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&module); }
