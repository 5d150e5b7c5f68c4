#include "linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "pool.h"
#include "scratch.h"

namespace tilewright {
namespace {

// Size of the packed panels processed together; values are read once for all of them. Half a typical L2 cache.
constexpr std::size_t group_floats = (512 << 10) / sizeof(float);
// Outputs per chunk: the unit of work of a thread, and the width of the rows written at once.
constexpr std::size_t tile_chunk = 64, row_chunk = 128;
// Vectors of a panel that stay in the L1 cache while all rows of a chunk use them (n:m with tile 1): 32 KB with AVX-512.
// Fewer tokens make the block longer instead of leaving the cache unused: the hardware prefetches long pieces of a row itself.
constexpr std::size_t block_vectors = 512;
// Panels of more vectors are processed strip by strip. A block must hold the largest group that is divided into blocks.
constexpr std::size_t largest_strip = 8, largest_group = 64;
static_assert(block_vectors / largest_strip >= largest_group);

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

struct Panel {
  std::size_t token, tokens, vectors, ld;
  const float* data;
};

// A range of tiles and the original outputs it is responsible for; the ranges of all chunks cover [0, N) exactly,
// including pruned outputs.
struct Chunk {
  std::size_t begin, end, first, last;
};

std::size_t original(const Weight& w, std::size_t stored) {
  return w.rows ? static_cast<std::size_t>(w.rows[stored]) : stored;
}

std::vector<Chunk> chunks_of(const Weight& w, std::size_t outputs) {
  const std::size_t step = std::max<std::size_t>(1, outputs / w.tile);
  std::vector<Chunk> chunks;
  for (std::size_t t = 0; t < w.tiles || chunks.empty(); t += step) {
    const std::size_t end = std::min(t + step, w.tiles);
    const std::size_t first = chunks.empty() ? 0 : chunks.back().last;
    const std::size_t last = end < w.tiles ? original(w, end * w.tile) : w.N;
    chunks.push_back({t, end, first, last});
  }
  return chunks;
}

// Calls visit(n) for every output of [first, last) that the weight does not store.
template <class Visit>
void for_pruned(const Weight& w, const Chunk& c, Visit visit) {
  if (!w.rows) return;
  std::size_t n = c.first;
  for (std::size_t s = c.begin * w.tile; s < std::min(c.end * w.tile, w.stored); ++s) {
    for (; n < static_cast<std::size_t>(w.rows[s]); ++n) visit(n);
    ++n;
  }
  for (; n < c.last; ++n) visit(n);
}

void rows_by_block(const Isa& isa, const Weight& w, RowJob job) {
  const std::size_t vectors = std::clamp<std::size_t>(job.strip.vectors, 1, largest_strip);
  const std::size_t block = block_vectors / vectors / w.m * w.m;
  const std::size_t a_row = w.K / w.m * w.n + std::min(w.n, w.K % w.m);
  const std::size_t a_block = block / w.m * w.n;
  job.pointers = nullptr;
  job.stride = a_row;
  for (std::size_t done = 0; done < a_row || done == 0; done += a_block) {
    job.offset = done;
    job.count = std::min(a_block, a_row - done);
    job.accumulate = done > 0;
    isa.rows(job);
  }
}

// All outputs of a chunk for one panel, into rows [first, last) at `out`.
void chunk_sums(const Isa& isa, const Weight& w, const Epilogue& e, const Panel& p, const Chunk& c, float* out) {
  const Strip strip{p.data, out, p.ld, p.ld, p.vectors, static_cast<std::int64_t>(c.first)};
  if (w.tile > 1) {
    isa.tiles({strip, w.values, w.columns, w.pointers, w.rows, e.bias, w.tile, w.stored, c.begin, c.end});
  } else {
    const RowJob job{strip, w.values, w.columns, w.pointers, 0, 0, 0, w.rows, e.bias, false, c.begin, c.end};
    if (w.m > 0 && w.m <= largest_group) rows_by_block(isa, w, job);
    else isa.rows(job);
  }
  const std::size_t used = p.vectors * isa.lanes;
  for_pruned(w, c, [&](std::size_t n) {
    std::fill_n(out + (n - c.first) * p.ld, used, e.bias ? e.bias[n] : 0.0f);
  });
  if (w.residual.pointers) {
    isa.rows({strip, w.residual.values, w.residual.columns, w.residual.pointers, 0, 0, 0, nullptr, nullptr, true,
              c.first, c.last});
  }
  if (e.activation == Activation::none) return;
  if (used == p.ld) return isa.activate(out, (c.last - c.first) * p.ld, e.activation);
  for (std::size_t n = c.first; n < c.last; ++n) isa.activate(out + (n - c.first) * p.ld, used, e.activation);
}

// Panels as even as possible: with at most `most` = 3 vectors each, 4 vectors become 2 + 2.
std::vector<Panel> cut_tokens(std::size_t M, std::size_t lanes, std::size_t most) {
  const std::size_t vectors = ceil_div(M, lanes), count = ceil_div(vectors, most);
  std::vector<Panel> panels;
  std::size_t token = 0;
  for (std::size_t p = 0; p < count; ++p) {
    const std::size_t mine = vectors / count + (p < vectors % count ? 1 : 0);
    const std::size_t tokens = std::min(mine * lanes, M - token);
    panels.push_back({token, tokens, mine, mine * lanes, nullptr});
    token += tokens;
  }
  return panels;
}

std::size_t group_end(const std::vector<Panel>& panels, std::size_t begin, std::size_t K) {
  std::size_t end = begin, floats = 0;
  do floats += panels[end++].ld * K;
  while (end < panels.size() && floats + panels[end].ld * K <= group_floats);
  return end;
}

void pack_group(const Isa& isa, const float* x, std::size_t K, std::vector<Panel>& panels, std::size_t begin,
                std::size_t end) {
  std::size_t floats = 0;
  for (std::size_t p = begin; p < end; ++p) floats += panels[p].ld * K;
  float* packed = packed_scratch().get(floats);
  for (std::size_t p = begin; p < end; ++p) {
    isa.pack(x + panels[p].token * K, K, panels[p].tokens, K, packed, panels[p].ld);
    panels[p].data = packed;
    packed += panels[p].ld * K;
  }
}

// Divides chunks into `slices` runs of about equal work; slice i is [cuts[i], cuts[i + 1]).
std::vector<std::size_t> slice_chunks(const Weight& w, const std::vector<Chunk>& chunks, std::size_t slices) {
  std::vector<std::size_t> cuts{0};
  const std::int64_t total = w.pointers[w.tiles];
  for (std::size_t c = 0; c < chunks.size() && cuts.size() < slices; ++c) {
    const bool enough = total > 0 ? w.pointers[chunks[c].end] * static_cast<std::int64_t>(slices) >=
                                        total * static_cast<std::int64_t>(cuts.size())
                                  : (c + 1) * slices >= chunks.size() * cuts.size();
    if (enough) cuts.push_back(c + 1);
  }
  cuts.resize(slices, chunks.size());
  cuts.push_back(chunks.size());
  return cuts;
}

// Number of threads that share the panels; the remaining factor shares the outputs. Sharing panels is better (nothing is
// packed twice), unless it would leave some threads with noticeably more panels than others.
std::size_t panel_shares(std::size_t panels, std::size_t threads) {
  for (std::size_t p = threads; p > 1; --p) {
    if (threads % p == 0 && (panels % p == 0 || panels >= 4 * p)) return p;
  }
  return 1;
}

// Calls work(panels, begin, end, first chunk, last chunk) so that every panel is combined with every chunk once. Each call
// owns its panels and outputs: threads share only data that is read, because reading a cache line that another core has
// just written costs far more than packing it again.
template <class Work>
void share(const Weight& w, const std::vector<Panel>& panels, const std::vector<Chunk>& chunks, std::size_t threads,
           const Work& work) {
  const std::size_t p = panel_shares(panels.size(), threads);
  const std::size_t q = std::min(threads / p, chunks.size());
  const std::vector<std::size_t> cuts = slice_chunks(w, chunks, q);
  parallel(p * q, threads, [&](std::size_t i) {
    const std::size_t begin = panels.size() * (i / q) / p, end = panels.size() * (i / q + 1) / p;
    std::vector<Panel> mine(panels.begin() + static_cast<std::ptrdiff_t>(begin),
                            panels.begin() + static_cast<std::ptrdiff_t>(end));
    for (std::size_t a = 0, b; a < mine.size(); a = b) {
      b = group_end(mine, a, w.K);
      work(mine, a, b, cuts[i % q], cuts[i % q + 1]);
    }
  });
}

void small_chunk(const Isa& isa, const Weight& w, const Epilogue& e, SmallJob job, const Chunk& c) {
  const std::size_t width = c.last - c.first;
  for (std::size_t t = 0; t < job.tokens; ++t) {
    float* y = job.y + t * job.ld_y + c.first;
    if (e.bias) std::memcpy(y, e.bias + c.first, width * sizeof(float));
    else std::fill_n(y, width, 0.0f);
  }
  job.begin = c.begin;
  job.end = c.end;
  isa.small(job);
  if (w.residual.pointers) {
    SmallJob rest = job;
    rest.values = w.residual.values;
    rest.columns = w.residual.columns;
    rest.pointers = w.residual.pointers;
    rest.rows = nullptr;
    rest.tile = 1;
    rest.stored = w.N;
    rest.begin = c.first;
    rest.end = c.last;
    isa.small(rest);
  }
  for (std::size_t t = 0; t < job.tokens; ++t) isa.activate(job.y + t * job.ld_y + c.first, width, e.activation);
}

void linear_small(const Isa& isa, const Weight& w, const Epilogue& e, const float* x, std::size_t M, float* y,
                  std::size_t threads) {
  std::size_t ld = 1;
  if (M > 1) {
    ld = M <= 4 ? 4 : 8;
    float* packed = packed_scratch().get(w.K * ld);
    isa.pack(x, w.K, M, w.K, packed, ld);
    x = packed;
  }
  const SmallJob job{x, ld, M, y, w.N, w.values, w.columns, w.pointers, w.rows, w.tile, w.stored, 0, 0};
  const std::vector<Chunk> chunks = chunks_of(w, tile_chunk);
  const std::size_t slices = std::min(threads, chunks.size());
  const std::vector<std::size_t> cuts = slice_chunks(w, chunks, slices);
  parallel(slices, threads, [&](std::size_t i) {
    for (std::size_t c = cuts[i]; c < cuts[i + 1]; ++c) small_chunk(isa, w, e, job, chunks[c]);
  });
}

}  // namespace

void linear(const Isa& isa, const Weight& w, const Epilogue& e, const float* x, std::size_t M, float* y,
            std::size_t threads) {
  if (M == 0 || w.N == 0) return;
  if (M <= w.few) return linear_small(isa, w, e, x, M, y, threads);
  const std::vector<Panel> panels = cut_tokens(M, isa.lanes, w.tile > 1 ? isa.tile_vectors : isa.row_vectors);
  const std::vector<Chunk> chunks = chunks_of(w, w.tile > 1 ? tile_chunk : row_chunk);
  share(w, panels, chunks, threads, [&](std::vector<Panel>& mine, std::size_t a, std::size_t b, std::size_t from, std::size_t to) {
    pack_group(isa, x, w.K, mine, a, b);
    for (std::size_t c = from; c < to; ++c) {
      for (std::size_t i = a; i < b; ++i) {
        const Panel& p = mine[i];
        const std::size_t first = chunks[c].first, width = chunks[c].last - first;
        float* out = output_scratch().get(width * p.ld);
        chunk_sums(isa, w, e, p, chunks[c], out);
        isa.unpack(out, p.ld, p.tokens, width, y + p.token * w.N + first, w.N);
      }
    }
  });
}

void linear_panels(const Isa& isa, const Weight& w, const Epilogue& e, const float* x, std::size_t M, std::size_t T,
                   float* y, std::size_t threads) {
  if (M == 0 || w.N == 0) return;
  std::vector<Panel> panels;
  for (std::size_t token = 0; token < M; token += T) {
    const std::size_t tokens = std::min(T, M - token);
    panels.push_back({token, tokens, ceil_div(tokens, isa.lanes), T, x + token * w.K});
  }
  const std::vector<Chunk> chunks = chunks_of(w, w.tile > 1 ? tile_chunk : row_chunk);
  share(w, panels, chunks, threads, [&](std::vector<Panel>& mine, std::size_t a, std::size_t b, std::size_t from, std::size_t to) {
    for (std::size_t c = from; c < to; ++c) {
      for (std::size_t i = a; i < b; ++i) {
        chunk_sums(isa, w, e, mine[i], chunks[c], y + mine[i].token * w.N + chunks[c].first * T);
      }
    }
  });
}

void pack_panels(const Isa& isa, const float* x, std::size_t M, std::size_t K, std::size_t T, float* panels,
                 std::size_t threads) {
  parallel(ceil_div(M, T), threads, [&](std::size_t p) {
    isa.pack(x + p * T * K, K, std::min(T, M - p * T), K, panels + p * T * K, T);
  });
}

void unpack_panels(const Isa& isa, const float* panels, std::size_t M, std::size_t N, std::size_t T, float* y,
                   std::size_t threads) {
  parallel(ceil_div(M, T), threads, [&](std::size_t p) {
    isa.unpack(panels + p * T * N, T, std::min(T, M - p * T), N, y + p * T * N, N);
  });
}

}  // namespace tilewright
