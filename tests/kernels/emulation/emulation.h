// All of the emulation: the headers that stand in for others of the same name where this folder
// comes first among those searched.
//
// Thread safety: as EmulatedBlock.
#pragma once

#include "tests/kernels/emulation/cuda.h"
#include "tests/kernels/emulation/cuda_bf16.h"
#include "tests/kernels/emulation/cuda_fp8.h"
#include "tests/kernels/emulation/cuda_runtime.h"
#include "tests/kernels/emulation/kernels/grid_dependency.cuh"
#include "tests/kernels/emulation/kernels/kernel_launch.cuh"
#include "tests/kernels/emulation/kernels/tensor_core.cuh"
#include "tests/kernels/emulation/kernels/tensor_map.h"
#include "tests/kernels/emulation/kernels/warpgroup.cuh"
