"""The service: radiographs in by DICOM, HTTP and a page; answers back to the archive and to people; nothing lost."""
