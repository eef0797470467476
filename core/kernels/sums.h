/* Sums of products by vectors, compiled once for each instruction set: the file that includes this has defined
 *
 *     vector                           LANES sums of int32
 *     load, store                      LANES of them, or as many pairs of int16, at any address
 *     broadcast                        a pair of int16 to all lanes
 *     add_products(sum, m, k)          sum + the products of pairs
 *     COLUMNS, PLACES                  two vectors of columns; all sums and three more vectors fit the registers
 *     EACH_NUMBER_OF_PLACES(f)         f(1) f(2) ... f(PLACES)
 */
enum { LANES = COLUMNS / 2 };

/* `places` is a constant where this is inlined: the sums stay in registers. */
ALWAYS_INLINE void sums_of_places(const int16_t *inputs, ptrdiff_t stride, const int places, int segments,
                                  ptrdiff_t segment_stride, int length, const int16_t *weights, const int32_t *bias,
                                  int32_t *sums) {
    vector total[PLACES][2];
    UNROLL
    for (int p = 0; p < places; p++) {
        total[p][0] = load(bias);
        total[p][1] = load(bias + LANES);
    }
    for (int s = 0; s < segments; s++) {
        const int16_t *m = inputs + s * segment_stride;
        for (int i = 0; i < length; i += 2, weights += 2 * COLUMNS) {
            vector k0 = load(weights), k1 = load(weights + 2 * LANES);
            UNROLL
            for (int p = 0; p < places; p++) {
                int32_t pair;
                memcpy(&pair, m + p * stride + i, sizeof pair);
                vector x = broadcast(pair);
                total[p][0] = add_products(total[p][0], x, k0);
                total[p][1] = add_products(total[p][1], x, k1);
            }
        }
    }
    UNROLL
    for (int p = 0; p < places; p++) {
        store(sums + p * COLUMNS, total[p][0]);
        store(sums + p * COLUMNS + LANES, total[p][1]);
    }
}

static void sums_of(const int16_t *inputs, ptrdiff_t stride, int places, int segments, ptrdiff_t segment_stride,
                    int length, const int16_t *weights, const int32_t *bias, int32_t *sums) {
    switch (places) {
#define PLACES_ARE(n)                                                                                        \
    case n: sums_of_places(inputs, stride, n, segments, segment_stride, length, weights, bias, sums); break;
        EACH_NUMBER_OF_PLACES(PLACES_ARE)
    }
}
