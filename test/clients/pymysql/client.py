"""What pymysql sees of a server, as one JSON finding a line.

The one argument is a JSON object: host, port, user, password, schema, tls, and
large, the length of the large value. No finding holds an id, address or time.
"""

import datetime
import decimal
import hashlib
import json
import os
import sys
import tempfile

import pymysql
from pymysql.constants import CLIENT

where = json.loads(sys.argv[1])


def connect(**options):
    if where["tls"]:
        options["ssl"] = {"check_hostname": False}
    return pymysql.connect(
        host=where["host"],
        port=int(where["port"]),
        user=where["user"],
        password=where["password"],
        database=where["schema"],
        charset="utf8mb4",
        local_infile=True,
        max_allowed_packet=64 << 20,
        client_flag=CLIENT.MULTI_STATEMENTS,
        read_timeout=60,
        **options,
    )


def plain(value):
    """Values as JSON can hold them, with their type where it would be lost."""
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return "bytes " + value.hex()
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.timedelta)):
        return f"{type(value).__name__} {value}"
    return value


def report(check, *saw):
    print(json.dumps({"check": check, "saw": plain(saw)}, ensure_ascii=False), flush=True)


def ask(cursor, sql, args=None):
    """One statement: rows, affected rows, and the names of the columns."""
    affected = cursor.execute(sql, args)
    names = [c[0] for c in cursor.description] if cursor.description else None
    return [affected, names, cursor.fetchall() if names else None, cursor.lastrowid]


def refused(cursor, sql, args=None):
    try:
        return ["no error", ask(cursor, sql, args)]
    except pymysql.err.MySQLError as e:
        # pymysql drops the SQLSTATE; the class of exception follows the code.
        return [type(e).__name__, *e.args]


def write_and_read(c):
    ask(c, "DROP TABLE IF EXISTS py")
    report("create", ask(c, """CREATE TABLE py (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) UNIQUE,
        n INT, d DECIMAL(10,3), f DOUBLE, day DATE, at DATETIME(6), took TIME, raw BLOB) CHARACTER SET utf8mb4"""))
    report("insert", ask(c, "INSERT INTO py (name, n) VALUES ('a', 1), ('b', 2), ('c', NULL)"))
    many = c.executemany("INSERT INTO py (name, n) VALUES (%s, %s)", [(f"m{i}", i) for i in range(50)])
    report("insert-many", many, c.lastrowid)
    report("update-same", ask(c, "UPDATE py SET n = 1 WHERE name = 'a'"))
    report("update", ask(c, "UPDATE py SET n = n + 1 WHERE name LIKE 'm%%'", ()))
    report("delete", ask(c, "DELETE FROM py WHERE name LIKE 'm%%'", ()))
    report("read", ask(c, "SELECT id, name, n FROM py ORDER BY id"))
    report("read-none", ask(c, "SELECT id FROM py WHERE id < 0"))
    values = (decimal.Decimal("-12345.678"), 2.5e-300, datetime.date(2026, 2, 28),
              datetime.datetime(2026, 12, 31, 23, 59, 59, 123456), datetime.timedelta(hours=-837, minutes=-59), bytes(range(256)))
    ask(c, "INSERT INTO py (name, d, f, day, at, took, raw) VALUES ('types', %s, %s, %s, %s, %s, %s)", values)
    report("types", ask(c, "SELECT d, f, day, at, took, raw FROM py WHERE name = 'types'"))
    ask(c, "INSERT INTO py (name) VALUES (%s)", ("✓ żółć 日本語 🚂",))
    report("unicode", ask(c, "SELECT name, CHAR_LENGTH(name) FROM py WHERE name LIKE '%%🚂'", ()))


def transactions(db, c):
    db.begin()
    ask(c, "INSERT INTO py (name) VALUES ('kept')")
    inside = ask(c, "SELECT COUNT(*) FROM py")
    db.commit()
    report("commit", inside, ask(c, "SELECT COUNT(*) FROM py"), db.get_autocommit())
    db.begin()
    ask(c, "DELETE FROM py")
    inside = ask(c, "SELECT COUNT(*) FROM py")
    db.rollback()
    report("rollback", inside, ask(c, "SELECT COUNT(*) FROM py"))
    db.autocommit(True)
    report("autocommit", db.get_autocommit(), db.server_status & 3)
    ask(c, "START TRANSACTION READ ONLY")
    report("read-only", refused(c, "DELETE FROM py"), db.server_status & 1)
    db.rollback()


def prepared(c):
    """pymysql speaks no binary protocol: PREPARE in SQL."""
    ask(c, "PREPARE s FROM 'SELECT ? + 1, CONCAT(?, ''!''), ?'")
    for args in ((41, "text", None), (decimal.Decimal("1.5"), "čeština", datetime.date(2026, 2, 28)), (-7, "", b"raw")):
        ask(c, "SET @a = %s, @b = %s, @c = %s", args)
        report(f"prepared {args[0]}", ask(c, "EXECUTE s USING @a, @b, @c"))
    ask(c, "DEALLOCATE PREPARE s")
    report("prepared-gone", refused(c, "EXECUTE s USING @a, @b, @c"))


def large(c):
    value = os.urandom(1 << 20) * (where["large"] >> 20)
    ask(c, "DROP TABLE IF EXISTS py_large")
    ask(c, "CREATE TABLE py_large (id INT PRIMARY KEY, v LONGBLOB)")
    affected = c.execute("INSERT INTO py_large VALUES (1, _binary %s)", (value,))
    c.execute("SELECT v, LENGTH(v) FROM py_large")
    got, length = c.fetchone()
    report("large", affected, length, len(got), hashlib.sha256(got).digest() == hashlib.sha256(value).digest())


def many_rows(c):
    digits = "(" + " UNION ALL ".join(f"SELECT {i} AS d" for i in range(10)) + ")"
    sql = f"SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 AS n, REPEAT('r', 100) FROM {digits} a, {digits} b, {digits} c, {digits} e ORDER BY n"
    count = c.execute(sql)
    report("rows", count, hashlib.sha256(json.dumps(c.fetchall()).encode()).hexdigest())
    stream = pymysql.cursors.SSCursor(c.connection)
    stream.execute(sql)
    first = stream.fetchmany(3)
    stream.close()  # reads the rest
    report("rows-streamed", first, ask(c, "SELECT 'alive'"))


def infile(c):
    with tempfile.TemporaryDirectory() as dir:
        name = os.path.join(dir, "rows.tsv")
        with open(name, "w") as f:
            f.writelines(f"{i}\tname {i}\n" for i in range(5000))
        ask(c, "DROP TABLE IF EXISTS py_file")
        ask(c, "CREATE TABLE py_file (id INT PRIMARY KEY, name VARCHAR(20))")
        report("local-infile", ask(c, "LOAD DATA LOCAL INFILE %s INTO TABLE py_file", (name,)), ask(c, "SELECT COUNT(*), SUM(id), MAX(name) FROM py_file"))
        saw = refused(c, "LOAD DATA LOCAL INFILE %s INTO TABLE py_file", (name + ".absent",))
        report("local-infile-absent", [str(s).replace(dir, "DIR") for s in saw])


def every(c, sql):
    """All the answers of a statement that has several."""
    answers = [[c.execute(sql), c.fetchall() if c.description else None]]
    try:
        while c.nextset():
            answers.append([c.rowcount, c.fetchall() if c.description else None])
    except pymysql.err.MySQLError as e:
        answers.append([type(e).__name__, *e.args])
    return answers


def several_answers(c):
    report("multi-statement", every(c, "SELECT 1; UPDATE py SET n = 5 WHERE name = 'a'; SELECT n FROM py WHERE name = 'a'"))
    report("multi-statement-error", every(c, "SELECT 1; SELECT missing FROM py; SELECT 2"), ask(c, "SELECT 'alive'"))
    ask(c, "DROP PROCEDURE IF EXISTS py_sets")
    ask(c, "CREATE PROCEDURE py_sets(IN a INT, OUT b INT) BEGIN SELECT a, a + 1; SELECT name FROM py ORDER BY id LIMIT 2; SET b = a * 2; END")
    report("procedure", every(c, "CALL py_sets(20, @b)"), ask(c, "SELECT @b"))


def state(db, c):
    report("session", ask(c, "SELECT @@autocommit, @@character_set_client, @@collation_connection, DATABASE()"))
    ask(c, "SET SESSION sql_mode = 'ANSI_QUOTES', @v = 5")
    report("variables", ask(c, 'SELECT @v AS "v", @@sql_mode, @v := @v + 1'), ask(c, "SELECT @v"))
    ask(c, "CREATE TEMPORARY TABLE t (v INT)")
    ask(c, "INSERT INTO t VALUES (3), (4)")
    report("temporary-table", ask(c, "SELECT SUM(v) FROM t"))
    report("found-rows", ask(c, "SELECT SQL_CALC_FOUND_ROWS name FROM py ORDER BY id LIMIT 1"), ask(c, "SELECT FOUND_ROWS()"))
    report("locks", ask(c, "SELECT GET_LOCK('py', 5)"), ask(c, "SELECT IS_USED_LOCK('py') = CONNECTION_ID()"), ask(c, "SELECT RELEASE_LOCK('py')"))
    report("last-insert-id", ask(c, "INSERT INTO py (name) VALUES ('last')")[0], ask(c, "SELECT LAST_INSERT_ID() = MAX(id) FROM py"))
    c.execute("INSERT IGNORE INTO py (name, n) VALUES ('w', 'many')")
    report("warnings", c._result.warning_count, db.show_warnings())
    db.select_db("information_schema")
    report("schema", ask(c, "SELECT DATABASE()"))
    db.select_db(where["schema"])
    db.ping(reconnect=False)


def errors(c):
    report("error 1146", refused(c, "SELECT * FROM missing"))
    report("error 1062", refused(c, "INSERT INTO py (name) VALUES ('a')"))
    report("error 1064", refused(c, "SELEC 1"))
    report("error 1054", refused(c, "SELECT nothing FROM py"))
    report("error 1305", refused(c, "CALL missing()"))
    report("error 45000", refused(c, "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'made up', MYSQL_ERRNO = 31001"))
    report("error 1049", refused(c, "USE no_such_schema"))
    report("error 1065", refused(c, ""))
    report("alive", ask(c, "SELECT 'alive'"))


def main():
    db = connect(autocommit=True)
    c = db.cursor()
    write_and_read(c)
    transactions(db, c)
    prepared(c)
    large(c)
    many_rows(c)
    infile(c)
    several_answers(c)
    errors(c)
    state(db, c)
    db.close()


main()
