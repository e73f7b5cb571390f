"""Vector stores and the files that clients put into them."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import DELETE, GET, LIST, POST, routes_of

_stores = routes_of("vector_io", "vector_stores")
_search = routes_of("vector_io", "search")
_attached = routes_of("vector_io", "vector_files")
_batches = routes_of("vector_io", "file_batches")
_chunks = routes_of("vector_io", "vector_io")
_files = routes_of("files", "files")

_FILE_LIST = ("limit", "order", "after", "purpose")
_PART_LIST = (*LIST, "filter")
_STORES, _STORE = "/v1/vector_stores", "/v1/vector_stores/{id}"
_FILES, _FILE = f"{_STORE}/files", f"{_STORE}/files/{{file_id}}"
_BATCHES, _BATCH = f"{_STORE}/file_batches", f"{_STORE}/file_batches/{{batch_id}}"
_PART, _PARTS, _BATCHED = "VectorStoreFile", "vector_files:VectorStoreFileList", "VectorStoreFileBatch"

STORES = (
    _search(POST, f"{_STORE}/search", "Search a store", "search", "SearchRequest", "SearchPage"),
    _stores(GET, _STORES, "List stores", "listing", "", "VectorStoreList", LIST),
    _stores(POST, _STORES, "Create a store", "create", "CreateRequest", "VectorStoreObject"),
    _stores(GET, _STORE, "Get a store", "retrieve", "", "VectorStoreObject"),
    _stores(POST, _STORE, "Change a store", "update", "UpdateRequest", "VectorStoreObject"),
    _stores(DELETE, _STORE, "Delete a store", "delete", "", "Deleted"),
    _attached(GET, _FILES, "List a store's files", "listing", "", _PARTS, _PART_LIST),
    _attached(POST, _FILES, "Put a file into a store", "attach", "AttachRequest", _PART),
    _attached(GET, _FILE, "Get a store's file", "retrieve", "", _PART),
    _attached(POST, _FILE, "Change attributes", "update", "AttributesRequest", _PART),
    _attached(DELETE, _FILE, "Take a file out of a store", "delete", "", "vector_stores:Deleted"),
    _attached(GET, f"{_FILE}/content", "Get a file's passages", "content", "", "FileContent"),
    _batches(POST, _BATCHES, "Put files into a store", "create", "BatchRequest", _BATCHED),
    _batches(GET, _BATCH, "Get a batch", "retrieve", "", _BATCHED),
    _batches(POST, f"{_BATCH}/cancel", "Cancel a batch", "cancel", "", _BATCHED),
    _batches(GET, f"{_BATCH}/files", "List a batch", "listing", "", _PARTS, _PART_LIST),
    _chunks(POST, "/v1/vector-io/insert", "Insert chunks", "insert", "InsertRequest", large=True),
    _chunks(POST, "/v1/vector-io/query", "Query chunks", "query", "QueryRequest", "QueryAnswer"),
)

FILES = (
    _files(POST, "/v1/files", "Upload a file", "create", "UploadForm", "FileObject", large=True, form=True),
    _files(GET, "/v1/files", "List files", "listing", "", "FileList", _FILE_LIST),
    _files(GET, "/v1/files/{id}", "Get a file", "retrieve", "", "FileObject"),
    _files(DELETE, "/v1/files/{id}", "Delete a file", "delete", "", "FileDeleted"),
    _files(GET, "/v1/files/{id}/content", "Get a file's bytes", "content"),
)
