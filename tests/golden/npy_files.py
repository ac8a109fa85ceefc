"""Files that NumPy writes: .npy of each dtype, order, format and kind of shape, and .npz archives."""

import pathlib
import warnings

import numpy as np

HERE = pathlib.Path(__file__).parent


def make_all():
    """tests/golden/npy: a .npy file of each dtype, order, format and kind of shape, and .npz archives."""
    folder = HERE / "npy"
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # formats 2.0 and 3.0 are not what NumPy would choose

        def save(name, array, version=None):
            with open(folder / f"{name}.npy", "wb") as file:
                np.lib.format.write_array(file, array, version=version)

        for kind in ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "U3", "V2"):
            dtype = np.dtype(kind)
            if dtype.kind in "iu":
                values = np.array([np.iinfo(dtype).min, 1, np.iinfo(dtype).max], dtype)
            elif dtype.kind == "f":
                values = np.array([-1.5, 0.1, np.inf], dtype)
            elif kind == "V2":  # as bfloat16 comes out of ml_dtypes
                values = np.array([0, 1, 1], "u2").view(dtype)
            else:
                values = np.array([0, 1, 1]).astype(dtype)
            save(kind, values)
            if dtype.kind in "iufb" and dtype.itemsize > 1:
                save(f"{kind}_big_endian", values.astype(dtype.newbyteorder(">")))
        save("objects", np.array([{}, None], object))
        save("structured", np.zeros(2, [("a", "f4"), ("b", "i4")]))

        counting = np.arange(24, dtype="f4").reshape(2, 3, 4)
        save("c_order", counting)
        save("fortran_order", np.asfortranarray(counting))
        save("fortran_order_big_endian", np.asfortranarray(counting.astype(">f4")))
        save("fortran_order_float16", np.asfortranarray(counting.astype("f2")))
        save("format_2", counting, (2, 0))
        save("format_3", counting, (3, 0))
        save("scalar", np.array(0.25))
        save("empty", np.zeros((2, 0, 3), "f4"))
        save("fortran_order_empty", np.zeros((2, 0, 3), "f4", order="F"))
        save("rank_8", np.arange(4, dtype="u1").reshape(1, 2, 1, 1, 2, 1, 1, 1))
        save("rank_9", np.zeros((1,) * 9, "u1"))

    arrays = {"w": counting, "layer/b": np.array([1, 2], "i4"), "é": np.array(0.25)}
    np.savez(folder / "arrays.npz", **arrays)
    np.savez_compressed(folder / "compressed.npz", **arrays, zeros=np.zeros(10000))
    np.savez(folder / "nothing.npz")
    np.savez(folder / "objects.npz", w=counting, o=np.array([{}, None], object))
    print(f"npy: {len(list(folder.iterdir()))} files")


if __name__ == "__main__":
    make_all()
