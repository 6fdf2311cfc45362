create table shop (name text); insert into shop values ('hoist');
