// What the mysql2 driver sees of a server, as one JSON finding a line.
//
// The one argument is a JSON object: host, port, user, password, schema, tls,
// and large, the length of the large value. No finding holds an id, address or
// time.
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout } from 'node:timers';
import mysql from 'mysql2/promise';

const where = JSON.parse(process.argv[2]);

const db = await mysql.createConnection({
  host: where.host,
  port: Number(where.port),
  user: where.user,
  password: where.password,
  database: where.schema,
  ssl: where.tls ? { rejectUnauthorized: false } : undefined,
  charset: 'utf8mb4',
  multipleStatements: true,
  supportBigNumbers: true,
  bigNumberStrings: true,
  dateStrings: true,
  timezone: 'Z',
  connectTimeout: 10000,
});

const sha256 = (data) => createHash('sha256').update(data).digest('hex');

function report(check, ...saw) {
  const plain = (_, v) => (v?.type === 'Buffer' ? 'bytes ' + Buffer.from(v.data).toString('hex') : v);
  console.log(JSON.stringify({ check, saw: JSON.parse(JSON.stringify(saw, plain) ?? 'null') }));
}

// Everything that the driver tells of an answer.
function told([answer, fields]) {
  const types = (list) => list?.map((f) => (Array.isArray(f) ? types(f) : f && [f.name, f.columnType, f.flags]));
  return { answer, types: Array.isArray(fields) ? types(fields) : undefined };
}
const text = async (sql, args) => told(await db.query(sql, args));
const binary = async (sql, args) => told(await db.execute(sql, args));

async function refused(ask, sql, args) {
  try {
    return { unexpected: await ask(sql, args) };
  } catch (e) {
    return { errno: e.errno, code: e.code, sqlState: e.sqlState, message: e.sqlMessage ?? e.message };
  }
}

async function writeAndRead() {
  await text('DROP TABLE IF EXISTS js');
  report('create', await text(`CREATE TABLE js (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) UNIQUE, n INT,
    big BIGINT, ubig BIGINT UNSIGNED, d DECIMAL(10,3), f DOUBLE, day DATE, at DATETIME(6), took TIME(3), raw BLOB,
    doc JSON) CHARACTER SET utf8mb4`));
  report('insert', await text("INSERT INTO js (name, n) VALUES ('a', 1), ('b', 2), ('c', NULL)"));
  report('update-same', await text("UPDATE js SET n = 1 WHERE name = 'a'"));
  report('update', await text('UPDATE js SET n = n + 1 WHERE id <= ?', [2]));
  report('delete', await text("DELETE FROM js WHERE name = 'c'"));
  report('read', await text('SELECT id, name, n FROM js ORDER BY id'));
  report('read-none', await text('SELECT id FROM js WHERE id < 0'));
  await text('INSERT INTO js (name) VALUES (?)', ['✓ żółć 日本語 🚂']);
  report('unicode', await text("SELECT name, CHAR_LENGTH(name) AS n FROM js WHERE name LIKE '%🚂'"));
}

async function transactions() {
  await db.beginTransaction();
  await text("INSERT INTO js (name) VALUES ('kept')");
  const inside = await text('SELECT COUNT(*) AS n FROM js');
  await db.commit();
  report('commit', inside, await text('SELECT COUNT(*) AS n FROM js'));
  await db.beginTransaction();
  await binary('DELETE FROM js WHERE id > ?', [0]);
  const emptied = await binary('SELECT COUNT(*) AS n FROM js');
  await db.rollback();
  report('rollback', emptied, await text('SELECT COUNT(*) AS n FROM js'));
}

async function prepared() {
  const insert = 'INSERT INTO js (name, n, big, ubig, d, f, day, at, took, raw, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)';
  const rows = [
    ['one', 1, '-9223372036854775808', '18446744073709551615', '-12345.678', 0.1, '2026-02-28', '2026-12-31 23:59:59.123456', '-838:59:58.999', Buffer.from([0, 255, 39, 92]), '{"a": [1, null]}'],
    ['two', null, null, null, null, null, null, null, null, null, null],
    ['three', '3', 3, 3, 3, 3, new Date(Date.UTC(2026, 0, 2)), new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 6)), '00:00:00', '', '{}'],
  ];
  for (const row of rows) report(`prepared insert ${row[0]}`, await binary(insert, row));
  const select = 'SELECT n, big, ubig, d, f, day, at, took, raw, doc FROM js WHERE name = ?';
  for (const row of rows) report(`prepared select ${row[0]}`, await binary(select, [row[0]]));
  report('prepared select none', await binary(select, ['none']));
  const echo = 'SELECT ? AS v';
  for (const v of [1, 1.5, 'text', null, true, Buffer.from('raw')]) report(`prepared echo ${v}`, await binary(echo, [v]));
  const other = await db.prepare('SELECT name FROM js WHERE n = ? OR name = ? ORDER BY id');
  report('prepared twice', told(await other.execute([1, 'b'])), told(await other.execute([null, 'a'])));
  await other.close();
  db.unprepare(select);
  report('prepared again', await binary(select, ['one']));
  report('prepared error 1146', await refused(binary, 'SELECT * FROM missing WHERE id = ?', [1]));
  report('prepared error 1062', await refused(binary, 'INSERT INTO js (name) VALUES (?)', ['a']));
  report('prepared error 1064', await refused(binary, 'SELEC ?', [1]));
}

async function large() {
  const block = randomBytes(1 << 20);
  const value = Buffer.concat(Array(where.large >> 20).fill(block));
  await text('DROP TABLE IF EXISTS js_large');
  await text('CREATE TABLE js_large (id INT PRIMARY KEY, v LONGBLOB)');
  const wrote = (await binary('INSERT INTO js_large VALUES (?, ?)', [1, value])).answer.affectedRows;
  const [rows] = await db.query('SELECT v, LENGTH(v) AS n FROM js_large');
  const [again] = await db.execute('SELECT v FROM js_large WHERE id = ?', [1]);
  report('large', wrote, rows[0].n, sha256(rows[0].v) === sha256(value), sha256(again[0].v) === sha256(value));
}

async function manyRows() {
  const digits = '(' + [...Array(10).keys()].map((i) => `SELECT ${i} AS d`).join(' UNION ALL ') + ')';
  const sql = `SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 AS n, REPEAT('r', 100) AS r
    FROM ${digits} a, ${digits} b, ${digits} c, ${digits} e ORDER BY n`;
  for (const ask of ['query', 'execute']) {
    const [rows] = await db[ask](sql);
    report(`rows ${ask}`, rows.length, sha256(JSON.stringify(rows)));
  }
}

async function infile() {
  await text('DROP TABLE IF EXISTS js_file');
  await text('CREATE TABLE js_file (id INT PRIMARY KEY, name VARCHAR(20))');
  const rows = [...Array(5000).keys()].map((i) => `${i}\tname ${i}\n`);
  const sql = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE js_file";
  const loaded = told(await db.query({ sql, infileStreamFactory: () => Readable.from(rows.map((r) => Buffer.from(r))) }));
  report('local-infile', loaded, await text('SELECT COUNT(*) AS n, SUM(id) AS s, MAX(name) AS m FROM js_file'));
}

async function severalAnswers() {
  report('multi-statement', await text("SELECT 1 AS a; UPDATE js SET n = 5 WHERE name = 'a'; SELECT n FROM js WHERE name = 'a'"));
  report('multi-statement-error', await refused(text, 'SELECT 1 AS a; SELECT missing FROM js; SELECT 2 AS b'));
  await text('DROP PROCEDURE IF EXISTS js_sets');
  await text('CREATE PROCEDURE js_sets(IN a INT, OUT b INT) BEGIN SELECT a, a + 1; SELECT name FROM js ORDER BY id LIMIT 2; SET b = a * 2; END');
  report('procedure', await text('CALL js_sets(20, @b)'), await text('SELECT @b AS b'));
  report('procedure-prepared', await binary('CALL js_sets(?, @b)', [21]), await text('SELECT @b AS b'));
}

async function errors() {
  for (const [code, sql] of [
    [1146, 'SELECT * FROM missing'], [1062, "INSERT INTO js (name) VALUES ('a')"], [1064, 'SELEC 1'],
    [1054, 'SELECT nothing FROM js'], [1305, 'CALL missing()'], [1049, 'USE no_such_schema'], [1065, ''],
    [45000, "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'made up', MYSQL_ERRNO = 31001"],
  ]) report(`error ${code}`, await refused(text, sql));
  report('alive', await text("SELECT 'alive' AS a"));
}

async function state() {
  report('session', await text('SELECT @@autocommit AS a, @@character_set_client AS c, @@collation_connection AS l, DATABASE() AS d'));
  await text("SET SESSION sql_mode = 'ANSI_QUOTES', @v = 5");
  report('variables', await text('SELECT @v AS "v", @@sql_mode AS m, @v := @v + 1 AS w'), await binary('SELECT @v AS v'));
  await text('CREATE TEMPORARY TABLE t (v INT)');
  await binary('INSERT INTO t VALUES (?), (?)', [3, 4]);
  report('temporary-table', await text('SELECT SUM(v) AS s FROM t'), await binary('SELECT SUM(v) AS s FROM t'));
  report('locks', await text("SELECT GET_LOCK('js', 5) AS g, IS_USED_LOCK('js') = CONNECTION_ID() AS mine"), await text("SELECT RELEASE_LOCK('js') AS r"));
  report('warnings', await text("INSERT IGNORE INTO js (name, n) VALUES ('w', 'many')"), await text('SHOW WARNINGS'));
  await db.changeUser({ user: where.user, password: where.password, database: where.schema });
  report('changed-user', await text('SELECT @v AS v, @@sql_mode LIKE \'%ANSI_QUOTES%\' AS ansi, DATABASE() AS d'), await refused(text, 'SELECT * FROM t'));
  await db.ping();
  await db.query("SET SESSION sql_mode = 'ANSI_QUOTES', @v = 6");
  await db.reset();
  report('reset', await text("SELECT @v AS v, @@sql_mode LIKE '%ANSI_QUOTES%' AS ansi, DATABASE() AS d"));
}

// A hang is a finding too, not a test that never ends.
setTimeout(() => {
  console.error('mysql2: no answer for two minutes');
  process.exit(3);
}, 120000).unref();

await writeAndRead();
await transactions();
await prepared();
await large();
await manyRows();
await infile();
await severalAnswers();
await errors();
await state();
await db.end();
