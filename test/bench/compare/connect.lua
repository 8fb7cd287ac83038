-- One connection a query: connect, read one row, disconnect. sysbench 1.0 has
-- no such option of its own (--reconnect came later).
sysbench.cmdline.options = {
   table_size = {"Number of rows of sbtest1", 10000}
}

function thread_init()
   driver = sysbench.sql.driver()
end

function event()
   local con = driver:connect()
   con:query("SELECT c FROM sbtest1 WHERE id=" ..
      sysbench.rand.default(1, sysbench.opt.table_size))
   con:disconnect()
end
