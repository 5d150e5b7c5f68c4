"""Published times on GPUs that the model is held against, or fitted on."""

VENOM = "VENOM artifact, github.com/UDC-GAC/venom, result/*.csv, algorithm 3: cuBLAS with float32 sums and cuSPARSELt 0.3.0, RTX 3090"
HALF = "VENOM artifact, algorithm 0: cuBLAS with float16 sums, RTX 3090"
TUTORIAL = "PyTorch tutorial advanced_source/semi_structured_sparse.py, A100 80 GB"
TILESPARSITY = "TileSparsity artifact, StreamMaskedGEMM/README.md, V100 PCIe 32 GB"
MLPERF = "MLPerf inference v3.0, closed, XE2420_T4x1_TRT, offline"

BY_INPUTS: dict[int, tuple[tuple[int, float, float], ...]] = {
    768: (
        (768, 0.121804, 0.0897408), (1536, 0.228925, 0.160614), (2304, 0.277986, 0.231567), (3072, 0.36659, 0.302586),
        (3840, 0.455174, 0.37404), (4608, 0.54317, 0.444658), (5376, 0.629178, 0.515631), (6144, 0.717479, 0.586536),
        (6912, 0.805638, 0.657464), (7680, 0.895581, 0.72818), (8448, 0.981604, 0.799291), (9216, 1.06993, 0.869264),
        (9984, 1.23973, 0.941109), (10752, 1.33394, 1.01018), (11520, 1.42879, 1.08139), (12288, 1.52248, 1.1531),
    ),
    1024: (
        (768, 0.157941, 0.090553), (1536, 0.29422, 0.16159), (2304, 0.386712, 0.232622), (3072, 0.510414, 0.303819),
        (3840, 0.635312, 0.375046), (4608, 0.757814, 0.445823), (5376, 0.880847, 0.516771), (6144, 1.00436, 0.586279),
        (6912, 1.12757, 0.658656), (7680, 1.25186, 0.729606), (8448, 1.37459, 0.799883), (9216, 1.49829, 0.869518),
        (9984, 1.86225, 0.942273), (10752, 2.0044, 1.01172), (11520, 2.14626, 1.08407), (12288, 2.28825, 1.1529),
    ),
}  # fmt: skip
"""Outputs, then (inputs, dense ms, 2:4 ms) with 4,096 tokens. The 768 rows are for fitting, the 1,024 rows for the verdict."""

BERT_SHAPES: tuple[tuple[int, int, int, float, float], ...] = (
    (768, 768, 4096, 0.12152, 0.0894237),
    (3072, 768, 4096, 0.369931, 0.222361),
    (768, 3072, 4096, 0.364835, 0.301761),
    (4096, 1024, 4096, 0.629915, 0.389621),
    (768, 768, 8192, 0.1992, 0.133695),
    (3072, 768, 8192, 0.696661, 0.441471),
    (768, 3072, 8192, 0.727317, 0.452281),
    (1024, 1024, 8192, 0.382568, 0.223052),
    (4096, 1024, 8192, 1.20521, 0.722059),
    (1024, 4096, 8192, 1.43998, 0.790189),
)
"""Outputs, inputs, tokens, dense ms, 2:4 ms; the two shapes among the 1,024 rows' own (4,096 tokens) left out."""

HALF_SUMS: tuple[tuple[int, int, int, float], ...] = (
    (768, 768, 4096, 0.0688339),
    (768, 768, 8192, 0.134974),
    (3072, 768, 4096, 0.212593),
    (3072, 768, 8192, 0.420554),
    (768, 3072, 4096, 0.203921),
    (768, 3072, 8192, 0.403743),
    (1024, 1024, 4096, 0.114398),
    (1024, 1024, 8192, 0.21202),
    (4096, 1024, 4096, 0.401049),
    (4096, 1024, 8192, 0.694458),
    (1024, 4096, 4096, 0.360883),
    (1024, 4096, 8192, 0.719612),
)
"""Outputs, inputs, tokens, ms (mean over the file's repetitions)."""

QUICKSTART = (3072, 10240, 3072, 0.870, 0.630)
"""Tokens, inputs, outputs, dense ms, 2:4 ms."""

BERT_BASE: dict[str, dict[int, tuple[float, float]]] = {
    "eager": {4: (11.10, 15.54), 16: (19.35, 15.74), 64: (72.71, 59.41), 256: (286.65, 247.63)},
    "compiled": {4: (7.59, 7.46), 16: (11.47, 9.68), 64: (41.57, 36.92), 256: (159.22, 142.23)},
}
"""Batch, then dense and 2:4 ms."""

TILE_WISE: tuple[tuple[int, int, int, int, int, float, float], ...] = (
    (12800, 768, 768, 384, 384, 252.665, 118.173),
    (12800, 768, 3072, 384, 1536, 831.651, 298.622),
    (12800, 3072, 768, 1536, 384, 849.863, 417.428),
)
"""M, N, K, kept N, kept K, dense us (second run), stream-masked us."""

T4_RATES = {"resnet50": 6121.33, "bert-large": 427.45}
SQUAD_TOKENS = 177
"""Mean tokens of a SQuAD v1.1 feature: 384 less the 54% that are padding (openreview 3nzKUh9a4M)."""
