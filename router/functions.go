package router

import "strings"

// pureFunctions are the built-in functions of MySQL 5.7 to 9 and MariaDB 10 to
// 11 that change nothing and give the same on a replica as a read there may. A
// call of any other name may be a stored function that writes.
var pureFunctions = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range strings.Fields(`
abs acos adddate addtime aes_decrypt aes_encrypt any_value asbinary ascii asin astext aswkb aswkt atan atan2 avg
benchmark bin bin_to_uuid binary bit_and bit_count bit_length bit_or bit_xor boundary buffer
cast ceil ceiling centroid char char_length character_length charset chr coalesce coercibility collation column_add column_check
column_create column_delete column_exists column_get column_json column_list compress concat concat_ws conv convert
convert_tz convexhull cos cot count crc32 crc32c cume_dist curdate current_date current_role current_time current_timestamp
current_user curtime
database date date_add date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear decode decode_histogram default
degrees dense_rank des_decrypt des_encrypt dimension elt encode encrypt endpoint envelope exp export_set exteriorring extract extractvalue
field find_in_set first_value floor format format_bytes format_pico_time from_base64 from_days from_unixtime
geomcollfromtext geometrycollection geometryfromtext geometryfromwkb geometryn geometrytype geomfromtext geomfromwkb get_format
glength greatest group_concat grouping
hex hour if ifnull in inet6_aton inet6_ntoa inet_aton inet_ntoa insert instr interiorringn interval is_ipv4
is_ipv4_compat is_ipv4_mapped is_ipv6 is_uuid isclosed isempty isnull isring issimple
json_array json_array_append json_array_insert json_array_intersect json_arrayagg json_compact json_contains json_contains_path
json_depth json_detailed json_equals json_exists json_extract json_insert json_key_value json_keys json_length json_loose
json_merge json_merge_patch json_merge_preserve json_normalize json_object json_object_filter_keys json_object_to_array
json_objectagg json_overlaps json_pretty json_query json_quote json_remove json_replace json_schema_valid
json_schema_validation_report json_search json_set json_storage_free json_storage_size json_table json_type json_unquote
json_valid json_value
lag last_day last_value lcase lead least left length length_linefrom linefromtext linefromwkb linestring linestringfromtext
ln localtime localtimestamp locate log log10 log2 lower lpad ltrim
make_set makedate maketime match max mbrcontains mbrcoveredby mbrcovers mbrdisjoint mbrequal mbrequals mbrintersects mbroverlaps
mbrtouches mbrwithin md5 median member microsecond mid min minute mod month monthname multilinestring multipoint multipolygon
name_const natural_sort_key not now nth_value ntile nullif numgeometries numinteriorrings numpoints nvl nvl2
oct octet_length old_password ord password percent_rank percentile_cont percentile_disc period_add period_diff pi point pointfromtext pointfromwkb pointn
pointonsurface polyfromtext polygon polyfromwkb position pow power
quarter quote radians rand random_bytes rank regexp_instr regexp_like regexp_replace regexp_substr repeat replace reverse right
round row row_number rpad rtrim
schema sec_to_time second session_user sha sha1 sha2 sformat sign sin sleep soundex space sqrt srid
st_area st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_boundary st_buffer st_buffer_strategy st_centroid st_collect
st_contains st_convexhull st_crosses st_difference st_dimension st_disjoint st_distance st_distance_sphere st_endpoint st_envelope
st_equals st_exteriorring st_frechetdistance st_geohash st_geomcollfromtext st_geometryfromtext st_geometryn st_geometrytype
st_geomfromgeojson st_geomfromtext st_geomfromwkb st_hausdorffdistance st_interiorringn st_intersection st_intersects st_isclosed
st_isempty st_isring st_issimple st_isvalid st_latfromgeohash st_latitude st_length st_linefromtext st_longfromgeohash
st_longitude st_makeenvelope st_numgeometries st_numinteriorrings st_numpoints st_overlaps st_pointfromgeohash st_pointfromtext
st_pointn st_polyfromtext st_simplify st_srid st_startpoint st_swapxy st_symdifference st_touches st_transform st_union
st_validate st_within st_x st_y
startpoint statement_digest statement_digest_text std stddev stddev_pop stddev_samp str_to_date strcmp subdate substr substring
substring_index subtime sum sys_guid sysdate system_user
tan time time_format time_to_sec timediff timestamp timestampadd timestampdiff to_base64 to_char to_date to_days to_number to_seconds
trim trim_oracle truncate
ucase uncompress uncompressed_length unhex unix_timestamp updatexml upper user utc_date utc_time utc_timestamp uuid uuid_short
uuid_to_bin uuid_v4 uuid_v7 validate_password_strength values var_pop var_samp variance vec_distance vec_distance_cosine
vec_distance_euclidean vec_fromtext vec_totext version
week weekday weekofyear weight_string xor year yearweek`) {
		set[name] = true
	}
	return set
}()

// specialFunctions are built-in functions that bind a statement to a server.
var specialFunctions = map[string]struct {
	target Target
	reason Reason
}{
	"get_lock":                          {Primary, ReasonUserLock},
	"release_lock":                      {Primary, ReasonUserLock},
	"release_all_locks":                 {Primary, ReasonUserLock},
	"is_free_lock":                      {Primary, ReasonUserLock},
	"is_used_lock":                      {Primary, ReasonUserLock},
	"nextval":                           {Primary, ReasonSequence},
	"setval":                            {Primary, ReasonSequence},
	"lastval":                           {Primary, ReasonSequence},
	"master_pos_wait":                   {Primary, ReasonReplicationWait},
	"source_pos_wait":                   {Primary, ReasonReplicationWait},
	"master_gtid_wait":                  {Primary, ReasonReplicationWait},
	"wait_for_executed_gtid_set":        {Primary, ReasonReplicationWait},
	"wait_until_sql_thread_after_gtids": {Primary, ReasonReplicationWait},
	"gtid_subset":                       {Primary, ReasonReplicationWait},
	"gtid_subtract":                     {Primary, ReasonReplicationWait},
	"last_insert_id":                    {Same, ReasonSessionValue},
	"row_count":                         {Same, ReasonSessionValue},
	"connection_id":                     {Same, ReasonSessionValue},
	"found_rows":                        {Same, ReasonFoundRows},
	"load_file":                         {Primary, ReasonServerState},
	"ps_current_thread_id":              {Primary, ReasonServerState},
	"ps_thread_id":                      {Primary, ReasonServerState},
}

// notFunctions are the reserved words that may stand before a parenthesis
// without calling anything; no stored function can be called by such a name.
var notFunctions = func() map[string]bool {
	set := make(map[string]bool)
	for _, w := range strings.Fields(`
all and as asc between by case cross desc distinct distinctrow div else except exists from group having in index inner intersect
interval is join key left like limit mod natural not null on or order outer over partition regexp right rlike row rows select set
straight_join table then union unique use using values when where with xor force ignore for
bigint binary blob char decimal double float int integer numeric real smallint tinyint varbinary varchar`) {
		set[w] = true
	}
	return set
}()
