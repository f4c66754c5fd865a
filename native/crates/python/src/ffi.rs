//! What PyO3 has no safe call for: context variables, a class's own constructor, state that the GIL guards, methods
//! without the parsing of arguments. The only unsafe code of this crate.
#![allow(unsafe_code)]

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
#[cfg(Py_GIL_DISABLED)]
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyLookupError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyClass, PyVisit};

use crate::values::MAX_BYTES;

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

/// How many characters a string has. Not asked of a subclass, which may say otherwise.
pub fn char_len(string: &Bound<'_, PyString>) -> usize {
    // SAFETY: attached; a live string.
    unsafe { ffi::PyUnicode_GetLength(string.as_ptr()) as usize }
}

/// The first characters of a string, of exactly that type.
pub fn head<'py>(string: &Bound<'py, PyString>, most: usize) -> PyResult<Bound<'py, PyString>> {
    let most = most.min(char_len(string)) as ffi::Py_ssize_t;
    // SAFETY: attached; a live string; a new reference or null with an exception set comes back.
    let head =
        unsafe { Bound::from_owned_ptr_or_err(string.py(), ffi::PyUnicode_Substring(string.as_ptr(), 0, most))? };
    Ok(head.cast_into::<PyString>()?)
}

/// A string's text, unless it can't be UTF-8 or is too long: at its place in the object where it is ASCII, as it mostly is.
#[inline(always)]
pub fn text<'a>(string: &'a Bound<'_, PyString>) -> Option<&'a str> {
    // Bit fields, which CPython may lay out anew in each version.
    #[cfg(not(Py_3_14))]
    // SAFETY: attached; a live string. A compact ASCII one has `length` bytes of ASCII behind its head, and never changes.
    unsafe {
        let pointer = string.as_ptr();
        if ffi::PyUnicode_IS_COMPACT_ASCII(pointer) != 0 {
            let len = ffi::PyUnicode_GET_LENGTH(pointer) as usize;
            let bytes = std::slice::from_raw_parts(ffi::PyUnicode_DATA(pointer).cast::<u8>(), len);
            return if len <= MAX_BYTES { Some(std::str::from_utf8_unchecked(bytes)) } else { None };
        }
    }
    // The interpreter keeps what it makes here for as long as the string lives.
    if char_len(string) > MAX_BYTES {
        return None;
    }
    string.to_str().ok().filter(|text| text.len() <= MAX_BYTES)
}

/// Whether this is the interpreter that the process began with, no subinterpreter.
pub fn is_main_interpreter(_: Python<'_>) -> bool {
    // SAFETY: attached, so that there is a current interpreter.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) == 0 }
}

/// Whether anything but this reference holds the object; without the GIL nobody can tell, so that something might.
pub fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; a live object.
    cfg!(Py_GIL_DISABLED) || unsafe { ffi::Py_REFCNT(object.as_ptr()) != 1 }
}

/// State that the GIL guards, at the cost of a flag; in free-threaded builds a lock does.
///
/// A fork can't happen in the middle of a change, because whoever forks has the GIL. A change runs no Python code, not
/// even by letting go of an object: what it removes, it returns.
pub struct GilCell<T> {
    #[cfg(not(Py_GIL_DISABLED))]
    busy: Cell<bool>,
    #[cfg(not(Py_GIL_DISABLED))]
    value: UnsafeCell<T>,
    #[cfg(Py_GIL_DISABLED)]
    value: Mutex<T>,
}

// SAFETY: the value is reached only by those who prove to have the GIL, one at a time.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub fn new(value: T) -> Self {
        #[cfg(not(Py_GIL_DISABLED))]
        return Self { busy: Cell::new(false), value: UnsafeCell::new(value) };
        #[cfg(Py_GIL_DISABLED)]
        return Self { value: Mutex::new(value) };
    }

    /// Works with the value.
    ///
    /// # Panics
    ///
    /// Where the value is being worked with already, which only Python code that runs inside of `work` could do.
    #[inline(always)]
    pub fn with<R>(&self, _py: Python<'_>, work: impl FnOnce(&mut T) -> R) -> R {
        self.locked(work)
    }

    /// Visits the value in a garbage collection, for which the interpreter holds the GIL.
    pub fn visit<R>(&self, _visit: &PyVisit<'_>, work: impl FnOnce(&mut T) -> R) -> R {
        self.locked(work)
    }

    /// The value, of one who has the cell for itself.
    pub fn get_mut(&mut self) -> &mut T {
        #[cfg(not(Py_GIL_DISABLED))]
        return self.value.get_mut();
        #[cfg(Py_GIL_DISABLED)]
        return self.value.get_mut().unwrap_or_else(PoisonError::into_inner);
    }

    #[cfg(not(Py_GIL_DISABLED))]
    #[inline(always)]
    fn locked<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        struct Busy<'a>(&'a Cell<bool>);
        impl Drop for Busy<'_> {
            #[inline(always)]
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        assert!(!self.busy.replace(true), "state is changed inside of its change");
        let _busy = Busy(&self.busy);
        // SAFETY: the callers have the GIL, and the flag says that nobody else has the value, even if `work` gave the
        // GIL away.
        work(unsafe { &mut *self.value.get() })
    }

    #[cfg(Py_GIL_DISABLED)]
    fn locked<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Positional arguments of a call.
#[derive(Clone, Copy)]
pub struct Arguments<'a, 'py> {
    py: Python<'py>,
    items: &'a [*mut ffi::PyObject],
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// All of them, if there are so many.
    #[inline(always)]
    pub fn all<const N: usize>(&self) -> Option<[Borrowed<'a, 'py, PyAny>; N]> {
        let items: [*mut ffi::PyObject; N] = self.items.try_into().ok()?;
        // SAFETY: attached; live objects that the caller holds during the call.
        Some(items.map(|item| unsafe { Borrowed::from_ptr(self.py, item) }))
    }
}

/// The usual calls of a method, taken without PyO3's parsing of arguments, which costs as much as what a span does.
///
/// Nothing may be dropped in it as `Py`, only as `Bound`: PyO3 doesn't know that the thread is attached and would put
/// the drop off.
pub trait Method {
    type Class: PyClass;
    const NAME: &'static CStr;

    /// Where the method that PyO3 has made is kept: it takes the other calls.
    fn ordinary() -> &'static PyOnceLock<Py<PyAny>>;

    /// Answers the call, or gives it back by None, before anything has happened.
    fn call<'py>(
        slf: Borrowed<'_, 'py, Self::Class>,
        arguments: Arguments<'_, 'py>,
    ) -> Option<PyResult<Bound<'py, PyAny>>>;
}

/// Makes a `Method`: its own name, the class, the method's name, and what answers its usual calls.
macro_rules! method {
    ($method:ident, $class:ty, $name:literal, |$slf:ident, $arguments:ident| $answer:block) => {
        struct $method;

        impl $crate::ffi::Method for $method {
            type Class = $class;
            const NAME: &'static std::ffi::CStr = $name;

            fn ordinary() -> &'static pyo3::sync::PyOnceLock<Py<PyAny>> {
                static ORDINARY: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
                &ORDINARY
            }

            #[inline(always)]
            fn call<'py>(
                $slf: Borrowed<'_, 'py, $class>,
                $arguments: $crate::ffi::Arguments<'_, 'py>,
            ) -> Option<PyResult<Bound<'py, PyAny>>> {
                $answer
            }
        }
    };
}
pub(crate) use method;

/// Keeps the method of `M`'s name as the ordinary one.
pub fn keep<M: Method>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let ordinary = py.get_type::<M::Class>().getattr(&*M::NAME.to_string_lossy())?;
    let _ = M::ordinary().set(py, ordinary.clone().unbind());
    Ok(ordinary)
}

/// Puts `M` in the place of the method of the same name.
pub fn install<M: Method>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<M::Class>();
    let name = M::NAME.to_string_lossy();
    let ordinary = keep::<M>(py)?;
    let text = |attribute| ordinary.getattr(attribute).and_then(|text| text.extract::<String>()).unwrap_or_default();
    let doc = format!("{name}{}\n--\n\n{}", text("__text_signature__"), text("__doc__"));
    let definition = ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<M> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: CString::new(doc)?.into_raw(),
    };
    // SAFETY: attached; a live class; the definition lives for ever, as the class does.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), Box::leak(Box::new(definition)));
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(&*name, method)
}

unsafe extern "C" fn enter<M: Method>(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL and `count` live arguments, and with an instance of the class, which the
    // descriptor has checked. A null pointer comes with no arguments.
    let (py, slf, items) = unsafe {
        let py = Python::assume_attached();
        let items: &[*mut ffi::PyObject] =
            if count == 0 { &[] } else { std::slice::from_raw_parts(arguments, count as usize) };
        (py, Borrowed::from_ptr(py, slf), items)
    };
    if names.is_null() {
        // SAFETY: as above.
        let instance = unsafe { slf.cast_unchecked::<M::Class>() };
        match catch_unwind(AssertUnwindSafe(|| M::call(instance, Arguments { py, items }))) {
            Ok(Some(Ok(answer))) => return answer.into_ptr(),
            Ok(None) => {}
            Ok(Some(Err(error))) => {
                error.restore(py);
                return ptr::null_mut();
            }
            Err(_) => {
                PyRuntimeError::new_err("a bug of otelagent_native").restore(py);
                return ptr::null_mut();
            }
        }
    }
    let Some(ordinary) = M::ordinary().get(py) else {
        PyRuntimeError::new_err("a method is called before its module is ready").restore(py);
        return ptr::null_mut();
    };
    // SAFETY: as above; of the arguments by name, the values follow the positional ones.
    unsafe {
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let mut all = Vec::with_capacity(1 + items.len() + named);
        all.push(slf.as_ptr());
        if items.len() + named > 0 {
            all.extend_from_slice(std::slice::from_raw_parts(arguments, items.len() + named));
        }
        ffi::PyObject_Vectorcall(ordinary.as_ptr(), all.as_ptr(), 1 + items.len(), names)
    }
}

/// What the interpreter calls when it calls an object of a class that stands for its own `__enter__` and `__exit__`.
///
/// A `with` statement takes a bound method of each, which are made and thrown away: a tenth of a span's cost. So the
/// object is bound to itself, and tells what it is called for by the number of arguments.
pub struct Entry(#[expect(dead_code, reason = "the interpreter reads it")] ffi::vectorcallfunc);

impl Entry {
    /// :param Enter: takes the calls without arguments.
    /// :param Exit: takes those with three.
    /// :param Call: its ordinary method takes all others.
    pub fn new<Enter: Method, Exit: Method, Call: Method>() -> Self {
        Self(called::<Enter, Exit, Call>)
    }
}

/// Has the interpreter call instances by their entry.
///
/// :param sample: any instance; from now on every one has such an entry at the same place.
/// :param entry: of the sample.
pub fn call_by_entry<T: PyClass>(sample: &Bound<'_, T>, entry: &Entry) {
    let offset = ptr::from_ref(entry) as usize - sample.as_ptr() as usize;
    // SAFETY: attached; a class of ours that nobody uses yet, whose instances all have one layout; a free-threaded build
    // keeps to the ordinary call.
    #[cfg(not(Py_GIL_DISABLED))]
    unsafe {
        let class = sample.as_any().get_type().as_type_ptr();
        (*class).tp_vectorcall_offset = offset as ffi::Py_ssize_t;
        (*class).tp_flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
    }
    #[cfg(Py_GIL_DISABLED)]
    let _ = offset;
}

/// Has the instances of a descriptor's class give, as a bound method, the object itself.
pub fn bind_to_itself<T: PyClass>(py: Python<'_>) {
    // SAFETY: attached; a class of ours that nobody uses yet.
    unsafe { (*py.get_type::<T>().as_type_ptr()).tp_descr_get = Some(itself) }
}

unsafe extern "C" fn itself(
    slf: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    _owner: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: live objects; asked of the class, the descriptor is what there is.
    unsafe { ffi::Py_NewRef(if instance.is_null() { slf } else { instance }) }
}

unsafe extern "C" fn called<Enter: Method, Exit: Method, Call: Method>(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a call by the vectorcall protocol is one by METH_FASTCALL, but for a flag in the count.
    unsafe {
        let count = ffi::PyVectorcall_NARGS(count);
        match (count, names.is_null()) {
            (0, true) => enter::<Enter>(slf, arguments, count, names),
            (3, true) => enter::<Exit>(slf, arguments, count, names),
            _ => enter::<Call>(slf, arguments, count, names),
        }
    }
}
