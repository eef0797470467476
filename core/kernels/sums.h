/* Sums of products by vectors, compiled once for each instruction set: the file that includes this has defined
 *
 *     vector                           LANES sums of int32, in one or more registers
 *     weights                          LANES pairs of int16
 *     pair                             a pair of int16, for all lanes
 *     load, store                      LANES sums, at any address
 *     load_weights                     LANES pairs, at any address
 *     broadcast                        a pair, given as an int32
 *     add_products(sum, m, k)          sum + the products of the pair m and each pair of k
 *     COLUMNS, PLACES                  two vectors of columns; all sums, two `weights` and a pair fit the registers
 *     EACH_NUMBER_OF_PLACES(f)         f(1) f(2) ... f(PLACES)
 */
enum { LANES = COLUMNS / 2 };

/* `places` is a constant where this is inlined: the sums stay in registers. */
ALWAYS_INLINE void sums_of_places(const int16_t *inputs, ptrdiff_t stride, const int places, int segments,
                                  ptrdiff_t segment_stride, int length, const int16_t *packed, const int32_t *bias,
                                  int32_t *sums) {
    vector total[PLACES][2];
    UNROLL
    for (int p = 0; p < places; p++) {
        total[p][0] = load(bias);
        total[p][1] = load(bias + LANES);
    }
    for (int s = 0; s < segments; s++) {
        const int16_t *m = inputs + s * segment_stride;
        for (int i = 0; i < length; i += 2, packed += 2 * COLUMNS) {
            weights k0 = load_weights(packed), k1 = load_weights(packed + 2 * LANES);
            UNROLL
            for (int p = 0; p < places; p++) {
                int32_t both;
                memcpy(&both, m + p * stride + i, sizeof both);
                pair x = broadcast(both);
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
                    int length, const int16_t *packed, const int32_t *bias, int32_t *sums) {
    switch (places) {
#define PLACES_ARE(n)                                                                                       \
    case n: sums_of_places(inputs, stride, n, segments, segment_stride, length, packed, bias, sums); break;
        EACH_NUMBER_OF_PLACES(PLACES_ARE)
    }
}
