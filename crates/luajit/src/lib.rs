//! luajit
