//! What PyO3 has no safe call for: context variables and a class's own constructor. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::ptr;

use pyo3::exceptions::{PyLookupError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

/// `var.get()`; `LookupError` where it has neither value nor default.
pub fn context_var_get<'py>(var: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = var.py();
    let mut value = ptr::null_mut();
    // SAFETY: attached; `var` is a live object, which the call checks to be a ContextVar; `value` receives a new
    // reference or null.
    unsafe {
        if ffi::PyContextVar_Get(var.as_ptr(), ptr::null_mut(), &mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr_or_opt(py, value).ok_or_else(|| PyLookupError::new_err("no current context"))
    }
}

/// `var.set(value)`; returns the token.
pub fn context_var_set<'py>(var: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; both are live objects; a new reference or null with an exception set comes back.
    unsafe { Bound::from_owned_ptr_or_err(var.py(), ffi::PyContextVar_Set(var.as_ptr(), value.as_ptr())) }
}

/// `var.reset(token)`; `ValueError` in another `contextvars.Context` than the token's.
pub fn context_var_reset(var: &Bound<'_, PyAny>, token: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached; both are live objects; the call checks that `token` is a Token.
    match unsafe { ffi::PyContextVar_Reset(var.as_ptr(), token.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(var.py())),
    }
}

/// An empty instance of a subclass of dict, by the slot that `cls()` would end up in: a third of its cost.
pub fn new_dict_subclass<'py>(cls: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    let py = cls.py();
    let arguments = PyTuple::empty(py);
    // SAFETY: attached; a live class and a live tuple; a new reference or null with an exception set comes back. A class
    // without `tp_new` can't be instantiated and is refused here. `__init__` isn't run, and dict's would do nothing.
    let made = unsafe {
        let class = cls.as_type_ptr();
        let new = (*class).tp_new.ok_or_else(|| PyTypeError::new_err("a class without tp_new"))?;
        Bound::from_owned_ptr_or_err(py, new(class, arguments.as_ptr(), ptr::null_mut()))?
    };
    Ok(made.cast_into::<PyDict>()?)
}

/// Whether anything but this reference holds the object.
pub fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) != 1 }
}
