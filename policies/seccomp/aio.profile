# For data bases that use the old kernel AIO interface (libaio: MySQL, some storage tools).  io_uring stays absent.
allow io_setup
allow io_destroy
allow io_submit
allow io_cancel
allow io_getevents
allow io_pgetevents
