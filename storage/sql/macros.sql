-- Scalar functions of every connection; `id_text` and `id_number` are made beside these, from storage.ids.

CREATE MACRO stage_order(stage) AS list_position(['propose', 'validate', 'solve', 'verify', 'update'], stage);
